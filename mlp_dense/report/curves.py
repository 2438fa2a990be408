"""Training curves from the scalars that mmengine's runs leave in their work dirs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.config import Config

from mlp_dense.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SCALARS = 'vis_data/scalars.json'
TITLES = {
    'loss': 'Training loss',
    'lr': 'Learning rate',
    'mIoU': 'mIoU, %',
    'coco/bbox_mAP': 'Box AP, %',
    'coco/segm_mAP': 'Mask AP, %',
}
"""What is drawn where it was recorded, and how it is called."""
COLORS = ('#3b82f6', '#f97316', '#10b981', '#a855f7', '#ef4444', '#eab308', '#06b6d4', '#84cc16')
"""Of the runs in turn; all readable on white and on near-black."""


@dataclass
class Series:
    """One scalar over a run."""

    unit: str
    """Of the steps: 'iteration' or 'epoch'."""
    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def cut(self, step: int) -> None:
        """Forget what was recorded at ``step`` and later."""
        kept = [pair for pair in zip(self.steps, self.values, strict=True) if pair[0] < step]
        self.steps, self.values = [pair[0] for pair in kept], [pair[1] for pair in kept]


@dataclass
class Run:
    """A training with all its resumptions: what was recorded, by name."""

    folder: Path
    series: dict[str, Series] = field(default_factory=dict)

    def add(self, row: dict[str, Any], unit: str) -> None:
        for name, value in row.items():
            if name not in ('step', 'iter', 'epoch') and isinstance(value, (int, float)):
                series = self.series.setdefault(name, Series(unit))
                series.steps.append(row['step'])
                series.values.append(value)


def sessions(folder: Path) -> list[Path]:
    """The folders of all started trainings below a work dir, oldest first; mmengine names them by the time.

    ``folder`` may be such a folder itself. Tests record no scalars of training and are left out.
    """
    found = [folder] if (folder / SCALARS).is_file() else [file.parents[1] for file in folder.glob(f'*/{SCALARS}')]
    return sorted(path for path in found if any(_is_training(row) for row in _rows(path)))


def read_run(folder: Path) -> Run:
    """The curves of the newest training in a work dir, put together from the sessions in which it was resumed.

    A resumed session takes over from its first recorded step; one that was not resumed starts anew.

    Raises:
        UserError: nothing was recorded there.
    """
    if not folder.is_dir():
        raise UserError(f'work dir {folder} does not exist; name the --work-dir of a training')
    run = Run(folder)
    for session in sessions(folder):
        _add_session(run, session)
    if not run.series:
        raise UserError(f'{folder} holds no recorded training (no <time>/{SCALARS}); name the --work-dir of a training')
    return run


def _add_session(run: Run, session: Path) -> None:
    rows = list(_rows(session))
    training = [row for row in rows if _is_training(row)]
    by_epoch = 'epoch' in training[0]
    if not _was_resumed(session):
        run.series.clear()
    for series in run.series.values():
        series.cut(training[0]['epoch'] if series.unit == 'epoch' else training[0]['step'])
    for row in rows:
        run.add(row, 'epoch' if by_epoch and not _is_training(row) else 'iteration')


def _is_training(row: dict[str, Any]) -> bool:
    """Whether a row was written by training; what validation writes has no iteration."""
    return 'iter' in row


def _was_resumed(session: Path) -> bool:
    config = session / 'vis_data/config.py'
    return config.is_file() and bool(Config.fromfile(config, import_custom_modules=False).get('resume'))


def _rows(session: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate((session / SCALARS).read_text().splitlines(keepends=True), 1):
        if not line.endswith('\n'):  # the last one, of a training that was stopped or is about to write more
            return
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            reason = f'line {number} is no JSON ({error.msg}); remove the line'
            raise UserError(f'{session / SCALARS}: {reason}') from error


def names_of(folders: Sequence[Path]) -> list[str]:
    """A name for each run: the last parts of its path, as many as tell the runs apart."""
    paths = [folder.resolve() for folder in folders]
    parts = next(n for n in count(1) if len({path.parts[-n:] for path in paths}) == len(set(paths)))
    return ['/'.join(path.parts[-parts:]) for path in paths]


def choose_keys(runs: Sequence[Run], keys: Sequence[str] | None = None) -> list[str]:
    """What to draw: ``keys``, or those of ``TITLES`` that at least one run has recorded.

    Raises:
        UserError: a key that no run has recorded, or none of ``TITLES``.
    """
    known = {name for run in runs for name in run.series}
    for key in keys or ():
        if key not in known:
            raise UserError(f'{key} was not recorded; there are {", ".join(sorted(known))}')
    chosen = list(keys or (key for key in TITLES if key in known))
    if not chosen:
        raise UserError(f'none of {", ".join(TITLES)} was recorded; choose from {", ".join(sorted(known))}')
    return chosen


def draw_panel(axes: Axes, runs: Sequence[Run], names: Sequence[str], key: str) -> None:
    """One scalar of all runs, in one diagram."""
    from matplotlib.ticker import MaxNLocator

    units = set()
    for index, (run, name) in enumerate(zip(runs, names, strict=True)):
        series = run.series.get(key)
        if series is not None:
            marker = 'o' if len(series.steps) < 30 else None
            color = COLORS[index % len(COLORS)]
            scale = 100 if key.startswith('coco/') else 1  # recorded as shares of 1; all papers give percent
            values = [scale * value for value in series.values]
            axes.plot(series.steps, values, marker=marker, markersize=3, linewidth=1.6, color=color, label=name)
            units.add(series.unit)
    axes.set_title(TITLES.get(key, key), fontsize=11, loc='left')
    axes.set_xlabel(' or '.join(sorted(units)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=True, linewidth=0.5, alpha=0.35)
    axes.spines[['top', 'right']].set_visible(False)
    if key == 'lr':
        axes.yaxis.set_major_formatter('{x:g}')


def draw(runs: Sequence[Run], keys: Sequence[str] | None = None) -> Figure:
    """All diagrams side by side, with one legend that names the runs.

    Raises:
        UserError: a key that no run has recorded.
    """
    from matplotlib.figure import Figure

    chosen, names = choose_keys(runs, keys), names_of([run.folder for run in runs])
    columns = min(len(chosen), 3)
    lines = -(-len(chosen) // columns)
    figure = Figure(figsize=(5 * columns, 3.6 * lines), layout='constrained')
    for index, key in enumerate(chosen):
        draw_panel(figure.add_subplot(lines, columns, index + 1), runs, names, key)
    handles = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), loc='outside lower center', ncols=min(len(handles), 4), frameon=False
    )
    return figure
