"""Draw the pictures of the documentation, from the code that they explain.

Example: python tools/dev/draw_docs.py --out-dir docs/pictures
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the libraries are imported after parsing, which takes seconds
    import torch
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY, LIGHT = '#2563eb', '#ea580c', '#9ca3af', '#eef2f7'
CHANNELS, LENGTH, CELLS = 9, 3, 7


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out-dir', type=Path, default=Path('docs/pictures'), help='default: %(default)s')
    return parser.parse_args(argv)


def draw_cells(axes: Any, values: Sequence[Sequence[str]]) -> None:
    """Draw a table of coloured cells, one row per list, the first row on top."""
    from matplotlib.patches import Rectangle

    for row, colors in enumerate(reversed(values)):
        for column, color in enumerate(colors):
            axes.add_patch(Rectangle((column, row), 1, 1, facecolor=color, edgecolor='white', linewidth=1.5))
    axes.set(xlim=(-0.1, len(values[0]) + 0.1), ylim=(-0.1, len(values) + 0.1), aspect='equal')
    axes.axis('off')


def cycle_fc_figure() -> Figure:
    """Draw the cells that each channel reads for one output cell: linear map, Cycle FC along the width, the height."""
    import torch
    from matplotlib.figure import Figure

    from mlp_dense.ops import channel_shifts, cycle_fc

    figure = Figure(figsize=(11, 3.9), layout='constrained')
    panels = figure.subplots(1, 3)
    centre, size = CELLS // 2, (1, CELLS, CELLS, CHANNELS)
    for axes, kernel, title in zip(
        panels,
        ((1, 1), (1, LENGTH), (LENGTH, 1)),
        ('Linear map\nall channels read the cell itself', 'sfc_h, kernel (1, 3)\nneighbours along the width',
         'sfc_w, kernel (3, 1)\nneighbours along the height'),
        strict=True,
    ):  # fmt: skip
        x = torch.zeros(size, dtype=torch.float64, requires_grad=True)
        weight = torch.ones(1, CHANNELS, dtype=torch.float64)
        cycle_fc(x, weight, kernel_size=kernel)[0, centre, centre, 0].backward()
        assert x.grad is not None
        read = x.grad[0, :, centre] if kernel[0] > 1 else x.grad[0, centre]  # (cells along the axis, channels)
        draw_cells(axes, [[BLUE if used else LIGHT for used in line] for line in read.T])
        axes.set_title(title, fontsize=11)
        axes.text(CELLS / 2, -0.7, 'cells along the axis', ha='center', fontsize=9, color='#374151')
        axes.text(-0.5, CHANNELS / 2, 'channels', rotation=90, va='center', fontsize=9, color='#374151')
        for channel, shift in enumerate(channel_shifts(CHANNELS, max(kernel))):
            axes.text(CELLS + 0.25, CHANNELS - 0.5 - channel, f'{shift:+d}' if shift else '0', va='center', fontsize=9)
    return figure


def any_size_figure() -> Figure:
    """Draw what a mixer made for 8 cells does to 12: how much each output cell takes from each input cell."""
    from matplotlib.figure import Figure

    length, size = 8, 12
    figure = Figure(figsize=(11, 4.0), layout='constrained')
    titles = {
        'window': 'window\npadded behind the end',
        'overlap': 'overlap\nevenly spaced, blended',
        'resize': 'resize\nto 8 cells and back',
    }
    for axes, (how, title) in zip(figure.subplots(1, 3), titles.items(), strict=True):
        matrix = response(size, length, how)
        axes.imshow(matrix, cmap='RdBu', vmin=-0.25, vmax=0.25)
        axes.set_title(title, fontsize=11)
        axes.set(xlabel='input cell', ylabel='output cell', xticks=range(0, size, 2), yticks=range(0, size, 2))
        for edge in range(length, size, length) if how == 'window' else ():
            axes.axhline(edge - 0.5, color=ORANGE)
            axes.axvline(edge - 0.5, color=ORANGE)
    return figure


def response(size: int, length: int, how: str) -> torch.Tensor:
    """Return ``(size, size)``: what output cell ``i`` of an averaging mixer takes from input cell ``j``."""
    import torch

    from mlp_dense.layers import on_axis

    def mean(line: torch.Tensor, real: torch.Tensor | None) -> torch.Tensor:
        return line.mean(2, keepdim=True).expand_as(line)

    impulses = torch.eye(size)[:, None, :, None]  # one image per input cell
    return on_axis(mean, impulses, 2, length, how)[:, 0, :, 0].T


FIGURES = {'cycle_fc.png': cycle_fc_figure, 'any_size.png': any_size_figure}


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    args.out_dir.mkdir(parents=True, exist_ok=True)
    for name, draw in FIGURES.items():
        draw().savefig(args.out_dir / name, dpi=90)
        print(args.out_dir / name)
    return 0


if __name__ == '__main__':
    sys.exit(main())
