"""One run of the benchmark: check, time, measure memory, and put all of it into one document of plain values."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision

import mlp_dense
from benchmarks.cases import MATMUL_BOUND, Case, How, Modules
from benchmarks.equality import check_equal
from benchmarks.memory import peak_memory
from benchmarks.timing import interleave, make_step, spread

Document = dict[str, Any]


def measure(cases: Sequence[Case], how: How, rounds: Iterable[int], min_seconds: float, memory: int = 0) -> Document:
    """Measure all implementations of all cases, interleaved.

    Args:
        cases: one or more of one mode.
        how: the way all are run.
        rounds: numbers of the rounds; at least two.
        min_seconds: shortest turn of an implementation.
        memory: of how many cases, from the first, peak memory is measured, too.

    Returns:
        ``mode``, ``machine``, ``how``, and ``cases``: what :func:`describe` says of each.

    Raises:
        UserError: the project does not equal its baseline, or something cannot be measured here.
    """
    modules: Modules = {}
    gmacs = [case.gmacs() for case in cases]
    errors = [check_equal(case, how, modules) for case in cases]
    lanes = [(index, name) for index, names in enumerate(gmacs) for name in names]
    steps = {(index, name): make_step(cases[index], name, how, modules) for index, name in lanes}
    seconds = interleave(steps, rounds, min_seconds)
    heavy = [(index, name) for index, name in lanes if index < memory and name != MATMUL_BOUND]
    peaks = dict(zip(heavy, peak_memory([(cases[i], name) for i, name in heavy], how, modules), strict=True))
    described = [
        describe(case, gmacs[index], _select(seconds, index), _select(peaks, index)) | {'errors': errors[index]}
        for index, case in enumerate(cases)
    ]
    return {'mode': cases[0].mode, 'machine': machine(how), 'how': asdict(how), 'cases': described}


def describe(
    case: Case, gmacs: Mapping[str, float], seconds: Mapping[str, list[float]], peaks: Mapping[str, int]
) -> Document:
    """Say what is known of a case.

    Returns:
        ``label``, ``settings``, ``baseline`` and ``implementations``, by name: ``gmacs`` of one image; ``seconds`` of a
        step (median, quartiles, all); ``images_per_second`` and ``gmacs_per_second`` of the median; ``speedup``, the
        baseline's median over this one, with the quartiles of that quotient over the rounds;
        ``time_over_matmul_bound``, likewise; and, if memory was measured, ``memory_bytes`` and
        ``memory_over_baseline``.
    """
    implementations = {}
    for name, values in seconds.items():
        rate = case.batch / spread(values)['median']
        row: Document = {'gmacs': gmacs[name], 'seconds': {**spread(values), 'all': values}}
        row |= {'images_per_second': rate, 'gmacs_per_second': rate * gmacs[name]}
        row['speedup'] = quotient(seconds[case.baseline], values)
        row['time_over_matmul_bound'] = quotient(values, seconds[MATMUL_BOUND])
        if name in peaks:
            row |= {'memory_bytes': peaks[name], 'memory_over_baseline': peaks[name] / max(peaks[case.baseline], 1)}
        implementations[name] = row
    about = {'label': case.label, 'settings': asdict(case), 'baseline': case.baseline}
    return {**about, 'implementations': implementations}


def quotient(first: list[float], second: list[float]) -> Document:
    """Divide the medians; the quartiles are those of the quotients of each round."""
    rounds = [one / other for one, other in zip(first, second, strict=True)]
    return {'value': spread(first)['median'] / spread(second)['median'], 'quartiles': spread(rounds)['quartiles']}


def machine(how: How) -> Document:
    """Name the device, the versions and the day that the numbers belong to."""
    versions = {module.__name__: module.__version__ for module in (torch, torchvision, timm, mlp_dense)}
    device = _processor() if how.device == 'cpu' else torch.cuda.get_device_name(how.device)
    return {'device': device, **versions, 'date': datetime.now(timezone.utc).date().isoformat()}


def _processor() -> str:
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor() or platform.machine()


def _select(values: Mapping[tuple[int, str], Any], case: int) -> dict[str, Any]:
    return {name: value for (index, name), value in values.items() if index == case}
