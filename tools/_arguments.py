"""What the command lines of the tools share. It imports nothing slow: --help and wrong arguments are told at once."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NoReturn

OPTIONS_HELP = (
    'settings to override, as key=value with full keys, such as train_dataloader.batch_size=4. A key must exist in the '
    'config or be an argument of the class in its place; +key=value sets any other. Lists are written [a,b], tuples '
    '(a,b). data_root=FOLDER moves every dataset and annotation file of the config to that folder.'
)

PRECISIONS = ('bf16', 'fp16')
LIKE_A_PRECISION = re.compile(r'auto|(b?f|[ft]p|b?float|half|full|int)\d*', re.IGNORECASE)
"""What stands for the value of ``--amp``, right or wrong, and not for the name of a config."""


class Parser(argparse.ArgumentParser):
    """A parser whose help begins with a text as it stands, and which tells a wrong argument in one line."""

    def __init__(self, description: str | None = None, **options: Any):
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse arguments as argparse does, but an ``--amp`` takes no config that follows it for its value."""
        words = [str(word) for word in (sys.argv[1:] if args is None else args)]
        for place, (word, value) in enumerate(pairwise(list(words))):
            if word == '--amp' and not LIKE_A_PRECISION.fullmatch(value) and not value.startswith('-'):
                words[place] = '--amp=auto'
        return super().parse_known_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f'error: {message}; see {self.prog} --help\n')


def start(run: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Run a tool whose arguments are parsed, and return its exit code.

    Importing mlp_dense takes seconds, so it is done here. A signal that comes then raises nothing, since libraries take
    an exception for a fault of their own. What the user can mend, and later signals, are told in one line.
    """
    before = {stop: signal.getsignal(stop) for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)}
    for number, handler in before.items():
        signal.signal(number, handler if handler is signal.SIG_IGN else end_at_once)
    bound_spinning()
    from mlp_dense.engine.quiet import quiet_libraries
    from mlp_dense.engine.refusals import misfits_told, refusals_told
    from mlp_dense.errors import user_errors
    from mlp_dense.processes import end_with_launcher

    end_with_launcher()
    if getattr(args, 'log', '') != 'full':
        quiet_libraries()
    for number, handler in before.items():
        signal.signal(number, handler)
    return user_errors(misfits_told()(refusals_told()(run)))(args)


def bound_spinning() -> None:
    """Let OpenMP's threads wait for each other by spinning for a short time, unless the user has set how they wait.

    Spinning threads keep the cores from other processes, which slow each other several times. PyTorch's OpenMP library
    reads the variable as it is loaded, so this comes before torch.
    """
    if not any(name in os.environ for name in ('GOMP_SPINCOUNT', 'OMP_WAIT_POLICY', 'KMP_BLOCKTIME')):
        os.environ['GOMP_SPINCOUNT'] = '10000'


def end_at_once(number: int, _: Any) -> NoReturn:
    """End this process, as the handler of a signal."""
    text = 'interrupted' if number == signal.SIGINT else f'stopped by {signal.Signals(number).name}'
    os.write(2, f'error: {text}\n'.encode() if os.environ.get('RANK', '0') == '0' else b'')
    os._exit(128 + number)


def parse_size(text: str) -> tuple[int, int]:
    """Read an image size, ``WIDTHxHEIGHT`` or one number for a square, and return (width, height) in pixels.

    Raises:
        argparse.ArgumentTypeError: the text has another form, or a side is 0.
    """
    match = re.fullmatch(r'([1-9][0-9]*)(?:x([1-9][0-9]*))?', text)
    if match is None:
        raise argparse.ArgumentTypeError(
            f'{text!r} is no size; give WIDTHxHEIGHT in pixels, such as 683x512, or one number for a square'
        )
    width, height = match.groups()
    return int(width), int(height or width)


def at_least(least: float) -> Callable[[str], float]:
    """Return a parser of numbers from ``least`` up, of its type."""

    def number(text: str) -> float:
        value = type(least)(text)
        if not value >= least:
            raise argparse.ArgumentTypeError(f'{text}: give numbers from {least}')
        return value

    return number


def parse_option(text: str) -> tuple[str, str]:
    """Split ``KEY=VALUE`` at the first ``=``; what VALUE stands for is seen when the config is read.

    Raises:
        argparse.ArgumentTypeError: there is no ``=``.
    """
    key, sign, value = text.partition('=')
    if not sign:
        raise argparse.ArgumentTypeError(f'{text!r} is not of the form key=value')
    return key, value


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options KEY=VALUE ...``, which gives a list of (key, text of the value) in the order typed."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        type=parse_option,
        default=[],
        metavar='KEY=VALUE',
        help=OPTIONS_HELP,
    )


def add_amp(parser: argparse.ArgumentParser) -> None:
    """Add ``--amp [bf16|fp16]``, which gives None without it and ``'auto'`` without a value."""
    parser.add_argument(
        '--amp',
        nargs='?',
        const='auto',
        choices=('auto', *PRECISIONS),
        metavar='|'.join(PRECISIONS),
        help='mixed precision: bf16 where the GPU or CPU multiplies it natively, else fp16 on a GPU and float32 on a '
        'CPU; bf16 or fp16 insists on it',
    )


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that tools/train.py and tools/test.py have in common."""
    parser.add_argument('--work-dir', help='folder for logs and checkpoints; default work_dirs/<name of the config>')
    parser.add_argument(
        '--log',
        choices=('short', 'full'),
        default='short',
        help='what the screen shows: a head, a bar and tables, or all that is in the log file (default: %(default)s)',
    )
    add_config_options(parser)
    parser.add_argument('--launcher', choices=('none', 'pytorch', 'slurm', 'mpi'), default='none', help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by the launcher')
