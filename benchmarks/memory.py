"""Peak memory of one step above what is held before it.

On a GPU: ``torch.cuda.max_memory_allocated`` during the step, less what is allocated before it. On a CPU: of a process
of its own for each implementation, the largest resident memory during the step (VmHWM, reset before it) less the
resident memory before it, when a first step has made the libraries load their kernels. The C library is told to give
freed memory back at once, so that the peak shows what is alive at the same time and not how its heap is cut up. Either
way there are no gradients before the step, so gradients of the parameters count.
"""

from __future__ import annotations

import ctypes
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

import torch

from benchmarks.cases import Case, How, Modules
from benchmarks.timing import Step
from mlp_dense.errors import UserError

Result = TypeVar('Result')

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of mallopt(3)


def peak_memory(jobs: Sequence[tuple[Case, str]], how: How, modules: Modules) -> list[int]:
    """Measure the bytes of each case and implementation. ``modules`` are those of this process, for a GPU.

    Raises:
        UserError: a process failed, for example for want of memory; or there is no way to measure it here.
    """
    if how.device != 'cpu':
        return [_peak_on_gpu(Step(case, name, how, modules)) for case, name in jobs]
    if not Path('/proc/self/clear_refs').exists():
        raise UserError('--memory: memory on a CPU is read from /proc, which this system lacks; leave it out')
    return [_peak_of_a_process(case, name, how) for case, name in jobs]


def _peak_on_gpu(step: Step) -> int:
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _peak_of_a_process(case: Case, name: str, how: How) -> int:
    return run_alone(peak_here, case, name, how, what=f'{name} at {case.label}')


def run_alone(function: Callable[..., Result], *args: Any, what: str) -> Result:
    """Run a function in a fork of a server that has imported the libraries and computed nothing.

    Raises:
        UserError: it failed, or its process was killed; ``what`` stands in the message.
    """
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload([__name__])
    try:
        with ProcessPoolExecutor(1, context) as process:
            return process.submit(function, *args).result()
    except BrokenProcessPool as error:
        reason = 'its process was killed, maybe for want of memory'
        raise UserError(f'measuring {what} failed: {reason}') from error
    except (UserError, RuntimeError, MemoryError) as error:
        reason = str(error).partition('\n')[0]
        raise UserError(f'measuring {what} failed: {reason}') from error


def peak_here(case: Case, name: str, how: How) -> int:
    """Measure the bytes of a step in this process, which has done nothing yet."""
    free_at_once()
    torch.set_num_threads(how.threads)
    step = Step(case, name, how, {})
    step()
    step.gradients.clear()
    before = resident()
    return peak_of(step) - before


def free_at_once() -> None:
    """Make the C library give freed memory back at once, in this process."""
    library = ctypes.CDLL(None)
    library.mallopt(MMAP_THRESHOLD, 65536)
    library.mallopt(TRIM_THRESHOLD, 65536)


def peak_of(step: Callable[[], object]) -> int:
    """Run a step and return the largest resident memory of this process during it, in bytes."""
    Path('/proc/self/clear_refs').write_text('5')  # VmHWM := VmRSS
    step()
    return _kilobytes('VmHWM') * 1024


def resident() -> int:
    """Return the resident memory of this process in bytes."""
    return _kilobytes('VmRSS') * 1024


def _kilobytes(entry: str) -> int:
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f'{entry}:'))
