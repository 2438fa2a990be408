"""How a training or test ends: the process group is left, and what the libraries say in many lines is told in one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist

from mlp_dense.engine.refusals import refusals_told
from mlp_dense.errors import UserError
from mlp_dense.stopping import Interrupted, stop_request

REMEDIES = {
    r'CUDA out of memory|out of memory on device|HIP out of memory': (
        'the GPU is out of memory; set a smaller train_dataloader.batch_size, use --amp, or recompute activations with '
        'model.backbone.with_cp=True'
    ),
    r'DefaultCPUAllocator: .*(allocate memory|not enough memory)': (
        'the machine is out of memory; set a smaller train_dataloader.batch_size or fewer num_workers'
    ),
    r'out of shared memory|[Bb]us error|unable to (open|allocate) shared memory|/torch_\d+.*No space left on device': (
        'the data workers are out of shared memory (/dev/shm); give it more (docker run --shm-size), or set fewer '
        'num_workers, 0 for none'
    ),
    r'Too many open files|received 0 items of ancdata': (
        'the data workers have too many files open; set fewer num_workers, or raise the limit (ulimit -n)'
    ),
    r'DataLoader worker .*(killed by signal|exited unexpectedly)': (
        'a data worker was ended from outside, mostly because the machine is out of memory; set fewer num_workers or a '
        'smaller batch_size'
    ),
    r'Expected more than 1 value per channel when training': (
        'a batch norm got one value per channel, as from a single image; set train_dataloader.batch_size=2 or more, '
        'train_dataloader.drop_last=True if the last batch is smaller, or a norm_cfg without batches, such as GN'
    ),
    r'The image size in a batch should be the same': (
        'images of several sizes cannot be in one batch; set batch_size=1 in val_dataloader and test_dataloader'
    ),
    r'Connection (closed|reset) by peer|Connection refused.*rank|Broken pipe.*gloo|gloo.*(closed|reset)': (
        'another process of this run has ended; what stopped it is in its own lines'
    ),
}
"""What matches a library's message -> what is wrong and what a user can do."""

FROM_OUTSIDE = ('a data worker was ended', 'another process of this run')
"""How remedies begin whose error comes of a signal, if there has been one: who sent it sent it to others as well."""


@contextmanager
def one_line_endings() -> Iterator[None]:
    """Raise UserError for an error of PyTorch that a user can mend, and leave the process group at the end.

    A process that ends while its group exists may be aborted (SIGABRT) after all its work is done.
    """
    is_failing = True
    try:
        with refusals_told():
            yield
        is_failing = False
    except Interrupted:
        is_failing = not stop_request.is_deferred  # otherwise all processes end together
        raise
    except UserError:
        raise
    except (RuntimeError, OSError, ValueError, AssertionError) as error:
        remedy = remedy_of(error)
        if stop_request.number and (remedy or '').startswith(FROM_OUTSIDE):
            raise Interrupted(stop_request.number) from error
        if remedy is None:
            raise
        first = re.sub(r'\s+', ' ', str(error))[:160]
        raise UserError(f'{remedy} ({first})') from error
    finally:
        leave_group(is_failing)


def remedy_of(error: BaseException) -> str | None:
    """Return what a user can do about an error of PyTorch, or about the one that caused it; None if not known."""
    texts = [str(error)]
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
        texts.append(str(error))
    return next((remedy for pattern, remedy in REMEDIES.items() if any(re.search(pattern, t) for t in texts)), None)


def leave_group(is_failing: bool = False) -> None:
    """Leave the process group, if there is one.

    After an error NCCL would wait for the other processes, which are stopped by their launcher; then it is left alone.
    """
    if dist.is_available() and dist.is_initialized() and not (is_failing and dist.get_backend() == 'nccl'):
        dist.destroy_process_group()
