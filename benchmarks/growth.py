"""How time grows with the image: fitted exponents, and a picture."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.cases import MATMUL_BOUND, ORIGINAL, PROJECT, REFERENCE
from mlp_dense.report.curves import COLORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIDES = (224, 320, 448, 512, 640, 768, 896, 1024)


def growth(cases: Sequence[Mapping[str, Any]], sides: Sequence[int]) -> dict[str, Any]:
    """Fit the growth of each implementation over square images.

    Args:
        cases: those of a run; it may have others, too.
        sides: edges of the square images that count, in pixels, ascending.

    Returns:
        By implementation ``sides`` and ``seconds``, and if there are several sides ``exponent``, the slope of log time
        over log pixels (least squares; 1 is linear), and ``excess``: how much more time per pixel the last side
        takes than the first (0 is linear).
    """
    sizes = [(case['settings']['height'], case['settings']['width']) for case in cases]
    squares = {size[0]: case['implementations'] for size, case in zip(sizes, cases, strict=True) if size[0] == size[1]}
    return {name: _curve({side: squares[side][name] for side in sides}) for name in squares[sides[0]]}


def _curve(rows: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    points = {side: row['seconds']['median'] for side, row in rows.items()}
    curve: dict[str, Any] = {'sides': list(points), 'seconds': list(points.values())}
    if len(points) > 1:
        pixels, seconds = [2 * math.log(side) for side in points], [math.log(value) for value in points.values()]
        curve['exponent'] = statistics.linear_regression(pixels, seconds).slope
        low, high = min(points), max(points)
        curve['excess'] = (points[high] / high**2) / (points[low] / low**2) - 1
    return curve


def draw(grown: Mapping[str, Any], title: str) -> Figure:
    """Draw time against image side, both logarithmic, and beside it time per pixel, where linear growth is level.

    Args:
        grown: what :func:`growth` returned.
        title: headline.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FormatStrFormatter, LogLocator

    figure = Figure(figsize=(12, 5.2), layout='constrained')
    left, right = figure.subplots(1, 2)
    for index, (name, curve) in enumerate(grown.items()):
        style = _style(name, index)
        left.plot(curve['sides'], [1e3 * seconds for seconds in curve['seconds']], **style)
        per_pixel = [1e9 * seconds / side**2 for side, seconds in zip(curve['sides'], curve['seconds'], strict=True)]
        exponent = f', pixels^{curve["exponent"]:.2f}' if 'exponent' in curve else ''
        right.plot(curve['sides'], per_pixel, label=f'{name}{exponent}', **style)
        sides = curve['sides']
    left.set_yscale('log')
    left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.yaxis.set_major_formatter(FormatStrFormatter('%g'))
    _frame(left, 'Time of a step, ms', sides)
    _frame(right, 'Time per pixel, ns (level: linear in pixels)', sides)
    right.set_ylim(bottom=0)
    figure.suptitle(title, fontsize=11, x=0.01, ha='left')
    figure.legend(loc='outside lower center', ncols=4, frameon=False)
    return figure


def _style(name: str, index: int) -> dict[str, Any]:
    """Return the style of a line: ours is thick, the matmul bound dashed, and peers are thin."""
    color, width = COLORS[index % len(COLORS)], {PROJECT: 2.6, ORIGINAL: 1.8, REFERENCE: 1.8, MATMUL_BOUND: 1.8}
    line = '--' if name == MATMUL_BOUND else '-'
    return {'color': color, 'linewidth': width.get(name, 1.2), 'linestyle': line, 'marker': 'o', 'ms': 3.5}


def _frame(axes: Axes, title: str, sides: Sequence[int]) -> None:
    axes.set_xscale('log')
    axes.set_xticks(sides, [str(side) for side in sides], minor=False)
    axes.minorticks_off()
    axes.set_title(title, fontsize=11, loc='left')
    axes.set_xlabel('image side, pixels')
    axes.grid(visible=True, linewidth=0.5, alpha=0.35)
    axes.spines[['top', 'right']].set_visible(False)
