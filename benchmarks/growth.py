"""How time grows with the image: fitted exponents, and a picture."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.cases import FLOOR, FUSED, ORIGINAL, PROJECT
from mlp_dense.report.curves import COLORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIDES = (224, 320, 448, 512, 640, 768, 896, 1024)
JUDGED = (512, 1024)
"""Sides between which the deviation from linear growth is told, if both are measured; else the first and the last."""


def growth(cases: Sequence[Mapping[str, Any]], sides: Sequence[int]) -> dict[str, Any]:
    """By contestant: ``sides`` and ``seconds`` of each square case that it took, and if they are several their growth.

    ``exponent``: slope of log time over log pixels, least squares over all sides; 1 is linear. ``linear``: between two
    ``sides``, how much more time per pixel the larger takes (``excess``; 0 is linear).

    Args:
        cases: those of a run; it may have others, too.
        sides: edges of the square images that count, in pixels.
    """
    sizes = [(case['settings']['height'], case['settings']['width']) for case in cases]
    squares = {size[0]: case['contestants'] for size, case in zip(sizes, cases, strict=True) if size[0] == size[1]}
    found: dict[str, dict[str, Any]] = {}
    for side, contestants in sorted((side, squares[side]) for side in set(sides)):
        for name, row in contestants.items():
            of = found.setdefault(name, {'sides': [], 'seconds': []})
            of['sides'].append(side)
            of['seconds'].append(row['seconds']['median'])
    for of in found.values():
        if len(of['sides']) > 1:
            pixels, seconds = [2 * math.log(side) for side in of['sides']], [math.log(s) for s in of['seconds']]
            of['exponent'] = statistics.linear_regression(pixels, seconds).slope
            of['linear'] = _linear(dict(zip(of['sides'], of['seconds'], strict=True)))
    return found


def _linear(points: Mapping[int, float]) -> dict[str, Any]:
    low, high = JUDGED if all(side in points for side in JUDGED) else (min(points), max(points))
    return {'sides': [low, high], 'excess': (points[high] / high**2) / (points[low] / low**2) - 1}


def draw(grown: Mapping[str, Any], title: str) -> Figure:
    """Time against image side, both logarithmic, and beside it time per pixel, where linear growth is level.

    Args:
        grown: what :func:`growth` returned.
        title: headline.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FormatStrFormatter, LogLocator

    figure = Figure(figsize=(12, 5.2), layout='constrained')
    left, right = figure.subplots(1, 2)
    for index, (name, of) in enumerate(grown.items()):
        style = _style(name, index)
        left.plot(of['sides'], [1e3 * seconds for seconds in of['seconds']], **style)
        per_pixel = [1e9 * seconds / side**2 for side, seconds in zip(of['sides'], of['seconds'], strict=True)]
        exponent = f', pixels^{of["exponent"]:.2f}' if 'exponent' in of else ''
        right.plot(of['sides'], per_pixel, label=f'{name}{exponent}', **style)
    left.set_yscale('log')
    left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.yaxis.set_major_formatter(FormatStrFormatter('%g'))
    _frame(left, 'Time of a step, ms', grown)
    _frame(right, 'Time per pixel, ns (level: linear in pixels)', grown)
    right.set_ylim(bottom=0)
    figure.suptitle(title, fontsize=11, x=0.01, ha='left')
    figure.legend(loc='outside lower center', ncols=4, frameon=False)
    return figure


def _style(name: str, index: int) -> dict[str, Any]:
    """Ours stand out: thick, the floor dashed; peers are thin."""
    color = COLORS[index % len(COLORS)]
    width = {PROJECT: 2.6, FUSED: 2.6, ORIGINAL: 1.8, FLOOR: 1.8}.get(name, 1.2)
    return {'color': color, 'linewidth': width, 'linestyle': '--' if name == FLOOR else '-', 'marker': 'o', 'ms': 3.5}


def _frame(axes: Axes, title: str, grown: Mapping[str, Any]) -> None:
    sides = sorted({side for of in grown.values() for side in of['sides']})
    axes.set_xscale('log')
    axes.set_xticks(sides, [str(side) for side in sides], minor=False)
    axes.minorticks_off()
    axes.set_title(title, fontsize=11, loc='left')
    axes.set_xlabel('image side, pixels')
    axes.grid(visible=True, linewidth=0.5, alpha=0.35)
    axes.spines[['top', 'right']].set_visible(False)
