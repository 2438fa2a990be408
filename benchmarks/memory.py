"""Peak memory of one step above what is held before it.

On a GPU: ``torch.cuda.max_memory_allocated`` during the step, less what is allocated before it. On a CPU: of a process
of its own for each contestant, the largest resident memory during the step (VmHWM, reset before it) less the resident
memory before it, when the model is built and a small step has made the libraries load their kernels. The C library is
told to give freed memory back at once, so that the peak shows what is alive at the same time and not how its heap is
cut up. Either way it is a first step, with no gradients there yet, so gradients of the parameters count.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.backbone_case import BackboneCase
from benchmarks.cases import Case, How, Modules
from benchmarks.op_case import OpCase
from benchmarks.timing import Step
from mlp_dense.errors import UserError

CASES = {case.mode: case for case in (OpCase, BackboneCase)}
AT_ONCE = {'MALLOC_MMAP_THRESHOLD_': '65536', 'MALLOC_TRIM_THRESHOLD_': '65536'}  # bytes; of glibc


def peak_memory(jobs: Sequence[tuple[Case, str]], how: How, modules: Modules) -> list[int]:
    """Bytes for each case and contestant, one after the other. ``modules`` are those of this process, for a GPU.

    Raises:
        UserError: a process failed, for example for want of memory; or there is no way to measure it here.
    """
    if how.device != 'cpu':
        return [_peak_on_gpu(Step(case, name, how, modules)) for case, name in jobs]
    if not Path('/proc/self/clear_refs').exists():
        raise UserError('--memory: memory on a CPU is read from /proc, which this system lacks; leave it out')
    answers = ask([(case, name, how) for case, name in jobs])
    for (case, name), answer in zip(jobs, answers, strict=True):
        if 'failed' in answer:
            raise UserError(f'--memory: measuring {name} at {case.label} failed: {answer["failed"]}')
    return [answer['bytes'] for answer in answers]


def ask(jobs: Sequence[tuple[Case, str, How]]) -> list[dict[str, Any]]:
    """The answers of :func:`main`, run in a process of its own, to some jobs."""
    given = [
        {'mode': case.mode, 'case': asdict(case), 'name': name, 'how': asdict(how)}  # type: ignore[call-overload]
        for case, name, how in jobs
    ]
    command, env = [sys.executable, '-m', __name__], {**os.environ, **AT_ONCE}
    lines = '\n'.join(map(json.dumps, given))
    done = subprocess.run(command, input=lines, stdout=subprocess.PIPE, text=True, env=env, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def _peak_on_gpu(step: Step) -> int:
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def main() -> None:
    """Read jobs from stdin, a line of JSON each, and print a line for each: ``bytes``, or why it ``failed``.

    Every job gets a fork of this process, which has imported the libraries and computed nothing.
    """
    for line in sys.stdin:
        sys.stdout.flush()
        child = os.fork()
        if not child:
            _answer(json.loads(line))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            print(
                json.dumps({'failed': f'its process ended with {status}; below 0 a signal, maybe for want of memory'})
            )


def _answer(job: dict[str, Any]) -> None:
    """Print the answer to a job, and end this process."""
    status = 1
    try:
        print(json.dumps(_try(job)), flush=True)
        status = 0
    finally:
        os._exit(status)  # without what the parent would do at its end


def _try(job: dict[str, Any]) -> dict[str, Any]:
    try:
        how = How(**job['how'])
        torch.set_num_threads(how.threads)
        case = CASES[job['mode']](**job['case'])
        return {'bytes': _peak_of_this_process(case, job['name'], how)}
    except Exception as error:
        traceback.print_exc()
        return {'failed': f'{type(error).__name__}: {error}'.partition('\n')[0]}


def _peak_of_this_process(case: Case, name: str, how: How) -> int:
    modules: Modules = {}
    step = Step(case, name, how, modules)
    Step(case.small(name), name, how, modules, like=case)()
    Path('/proc/self/clear_refs').write_text('5')  # VmHWM := VmRSS
    before = _kilobytes('VmRSS')
    step()
    return (_kilobytes('VmHWM') - before) * 1024


def _kilobytes(entry: str) -> int:
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f'{entry}:'))


if __name__ == '__main__':
    main()
