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
from benchmarks.cases import FLOOR, ORIGINAL, Case, How, Modules
from benchmarks.equality import check_equal
from benchmarks.memory import peak_memory
from benchmarks.timing import Step, interleave, spread

Document = dict[str, Any]


def measure(cases: Sequence[Case], how: How, rounds: Iterable[int], min_seconds: float, memory: int = 0) -> Document:
    """Measure all contestants of all cases, interleaved.

    Args:
        cases: of one mode.
        how: the way all are run.
        rounds: numbers of the rounds; at least two.
        min_seconds: shortest turn of a contestant.
        memory: of how many cases, from the first, peak memory is measured, too.

    Returns:
        ``mode``, ``machine``, ``how``, and ``cases``: what :func:`describe` says of each.

    Raises:
        UserError: the project does not equal the original, or something cannot be measured here.
    """
    modules: Modules = {}
    gmacs = [case.gmacs() for case in cases]
    errors = [check_equal(case, how, modules) for case in cases]
    lanes = [(index, name) for index, names in enumerate(gmacs) for name in names]
    steps = {(index, name): Step(cases[index], name, how, modules) for index, name in lanes}
    seconds = interleave(steps, rounds, min_seconds)
    heavy = [lane for lane in lanes if lane[0] < memory]
    jobs = [(cases[index], name) for index, name in heavy]
    peaks = dict(zip(heavy, peak_memory(jobs, how, modules) if jobs else [], strict=True))
    described = [
        describe(case, gmacs[index], _of(seconds, index), _of(peaks, index)) | {'errors': errors[index]}
        for index, case in enumerate(cases)
    ]
    return {'mode': cases[0].mode, 'machine': machine(how), 'how': asdict(how), 'cases': described}


def describe(
    case: Case, gmacs: Mapping[str, float], seconds: Mapping[str, list[float]], peaks: Mapping[str, int]
) -> Document:
    """What is known of a case.

    ``label``, ``settings``, ``left_out`` (name: reason) and ``contestants``, by name: ``gmacs`` of one
    image; ``seconds`` of a step (median, quartiles, all); ``images_per_second`` and ``gmacs_per_second`` of the median;
    ``speedup_over_original``, the original's median over this one, with the quartiles of that quotient over the rounds;
    ``time_over_floor``, this median over the floor's, likewise; and where memory was measured ``memory_bytes``,
    ``memory_over_original`` and ``memory_over_floor``. What would need the original is missing where it is left out.
    """
    contestants = {}
    for name, taken in seconds.items():
        rate = case.batch / spread(taken)['median']
        row: Document = {'gmacs': gmacs[name], 'seconds': {**spread(taken), 'all': taken}}
        row |= {'images_per_second': rate, 'gmacs_per_second': rate * gmacs[name]}
        if ORIGINAL in seconds:
            row['speedup_over_original'] = quotient(seconds[ORIGINAL], taken)
        row['time_over_floor'] = quotient(taken, seconds[FLOOR])
        if peaks:
            row['memory_bytes'] = peaks[name]
            others = [other for other in (ORIGINAL, FLOOR) if peaks.get(other)]
            row |= {f'memory_over_{other}': peaks[name] / peaks[other] for other in others}
        contestants[name] = row
    left_out = case.left_out()
    about = {'label': case.label, 'settings': asdict(case)}  # type: ignore[call-overload]
    return {**about, 'left_out': left_out, 'contestants': contestants}


def quotient(one: list[float], other: list[float]) -> Document:
    """Of the medians; and the quartiles of the quotients of each round."""
    rounds = [first / second for first, second in zip(one, other, strict=True)]
    return {'value': spread(one)['median'] / spread(other)['median'], 'quartiles': spread(rounds)['quartiles']}


def machine(how: How) -> Document:
    """What the numbers belong to."""
    return {
        'device': _processor() if how.device == 'cpu' else torch.cuda.get_device_name(how.device),
        'torch': torch.__version__,
        'torchvision': torchvision.__version__,
        'timm': timm.__version__,
        'mlp_dense': mlp_dense.__version__,
        'date': datetime.now(timezone.utc).date().isoformat(),
    }


def _processor() -> str:
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor() or platform.machine()


def _of(values: Mapping[tuple[int, str], Any], case: int) -> dict[str, Any]:
    return {name: value for (index, name), value in values.items() if index == case}
