"""The screen of a run: a head, one bar, a table at each validation, every warning once."""

from __future__ import annotations

import functools
import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, ClassVar, Concatenate, ParamSpec, TypeVar

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from rich.console import Console, RenderableType
from rich.file_proxy import FileProxy
from rich.progress import BarColumn, Progress, TextColumn

from mlp_dense.engine.console.hook import ConsoleHook
from mlp_dense.engine.console.tables import class_table
from mlp_dense.engine.quiet import is_of_use

Arguments = ParamSpec('Arguments')
Result = TypeVar('Result')
ON_WEIGHTS = re.compile('resumed epoch|load .*model from: ')
"""How messages of mmengine begin that belong to the head's line on weights, with those of this package."""
OF_USE = re.compile('LR is set based on|Enabling the "|Model has been "compiled"')
"""How other messages of mmengine begin that a person should see, though they are no warnings."""
RANKS = {'pytorch': 'RANK', 'slurm': 'SLURM_PROCID', 'mpi': 'OMPI_COMM_WORLD_RANK'}
"""The variable in which a launcher gives a process its number: it is needed before the processes know each other."""


class RunConsole:
    """The screen of one run, for the ``with`` statement around it.

    On a terminal there is a bar; elsewhere a line at the logger's interval. Of several processes only the first writes.
    Leaving ends the bar before anything else is written, such as an error, and gives the screen back.

    Args:
        cfg: the config of the run.
    """

    current: ClassVar[RunConsole | None] = None
    """The console of the run that is being built or is running; None where mmengine's log is shown in full."""

    def __init__(self, cfg: Config):
        rank = os.environ.get(RANKS.get(cfg.get('launcher', 'none'), ''), '0')
        self.first = rank == '0'
        self.console = Console(file=sys.stdout, highlight=False, markup=False, soft_wrap=True)
        self.notes: list[str] | None = []  # about the weights, until the head is shown
        self.seen: set[str] = set()
        self.per_class = False  # whether tables per class are shown
        self.kind = ''  # of the results that are being evaluated, bbox or segm
        self.handlers: list[tuple[logging.Logger, list[logging.Handler]]] = []
        self.bar: Progress | None = None
        self.state = ''  # how far the run is
        self.part = ''  # what is tested again, such as a corruption; its metrics are shown by who asked for them

    def __enter__(self) -> RunConsole:
        RunConsole.current = self
        self._before = sys.stdout, sys.stderr, warnings.showwarning
        warnings.showwarning = self._show_warning
        os.register_at_fork(after_in_child=self._restore)  # processes that read data write as ever
        self.attach(MMLogger.get_current_instance())
        if self.first and sys.stdout.isatty() and not self.console.is_dumb_terminal:
            columns = TextColumn('{task.description}'), BarColumn(None), TextColumn('{task.fields[figures]}')
            # No thread draws: a process that is forked while one holds the screen's lock would hang. The cursor stays,
            # since a process that is killed could not bring it back.
            self.bar = Progress(
                *columns,
                console=self.console,
                expand=True,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self.task = self.bar.add_task('starting', total=None, figures='')
            self.bar.start()
            self.console.show_cursor(True)
            sys.stdout, sys.stderr = FileProxy(self.console, sys.stdout), FileProxy(self.console, sys.stderr)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.stop()
        self._restore()
        if error is not None and self.state:
            self.say(f'stopped at {self.state}')

    def _restore(self) -> None:
        """Give streams, warnings and loggers back; also in a forked process, which must not draw."""
        if RunConsole.current is self:
            sys.stdout, sys.stderr, warnings.showwarning = self._before
            for logger, handlers in self.handlers:
                logger.handlers[:] = handlers
            RunConsole.current = None

    def attach(self, logger: MMLogger) -> None:
        """Show, in place of what a logger writes to the screen, what :meth:`show` makes of it."""
        kept = [handler for handler in logger.handlers if type(handler) is not logging.StreamHandler]
        self.handlers.append((logger, logger.handlers[:]))
        logger.handlers[:] = [*kept, _Handler(self)]

    def watch(self, runner: Runner) -> None:
        """Follow a runner."""
        if self.first:
            runner.register_hook(ConsoleHook(self), priority='VERY_LOW')

    def say(self, what: RenderableType) -> None:
        """Write above the bar."""
        if self.first:
            self.console.print(what)

    def warn(self, text: str) -> None:
        """Write a warning, unless it has been written before."""
        if text not in self.seen:
            self.seen.add(text)
            self.say(f'warning: {text}')

    def show(self, record: logging.LogRecord) -> None:
        """Show a record of mmengine's logger, if it is for a person."""
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            self.warn(text.strip())
        elif match := re.match(r'Evaluating (\w+)', text):
            self.kind = f' ({match[1]})'
        elif self.per_class and (table := class_table(text, f'per class{self.kind}', self.console.width)) is not None:
            self.say(table)
        elif self.notes is not None and (ON_WEIGHTS.match(text) or _is_ours()):
            self.notes.append(text)
        elif ON_WEIGHTS.match(text) or OF_USE.match(text) or _is_ours():
            self.say(text)

    def _show_warning(
        self, message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any, **__: Any
    ) -> None:
        self.warn(f'{" ".join(str(message).split())} ({category.__name__}, {Path(filename).name}:{lineno})')

    def begin(self, head: str) -> None:
        """Show the head of the run; from now on notes are shown as they come."""
        self.say(head)
        self.notes = None

    def progress(self, done: int, total: int, place: str, figures: str) -> None:
        """Move the bar, or write a line; the caller sees to it that this is not too often."""
        if self.bar is None:
            self.say('  '.join(filter(None, (time.strftime('%H:%M:%S'), place, figures))))
        else:
            self.bar.update(self.task, completed=done, total=total, description=place, figures=figures, refresh=True)


def on_screen(main: Callable[Concatenate[Config, Arguments], Result]) -> Callable[..., Result]:
    """Decorate what runs a config, its first argument: its screen is a :class:`RunConsole`.

    ``full_log=True`` then shows mmengine's log instead.
    """

    @functools.wraps(main)
    def run(cfg: Config, *args: Any, full_log: bool = False, **options: Any) -> Result:
        if full_log:
            return main(cfg, *args, **options)
        with RunConsole(cfg):
            return main(cfg, *args, **options)

    return run


class _Handler(logging.Handler):
    """A handler that leaves the records of a logger to a console."""

    def __init__(self, console: RunConsole):
        super().__init__(logging.INFO)
        self.run_console = console
        self.addFilter(is_of_use)

    def emit(self, record: logging.LogRecord) -> None:
        self.run_console.show(record)


def _is_ours() -> bool:
    """Tell whether the record that is being handled was written by this package and not by a library."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get('__name__', '')
        if not name.startswith(('logging', 'mmengine.logging', __name__)):
            return name.startswith('mlp_dense.')
        frame = frame.f_back
    return False
