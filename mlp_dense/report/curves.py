"""Training curves from the scalars that mmengine's runs leave in their work dirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp_dense.engine.recorded import read_recorded
from mlp_dense.engine.records import read_records
from mlp_dense.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SCALARS = 'vis_data/scalars.json'
TITLES = {
    'loss': 'Training loss',
    'lr': 'Learning rate',
    'accuracy/top1': 'Top-1 accuracy, %',
    'accuracy/top5': 'Top-5 accuracy, %',
    'mIoU': 'mIoU, %',
    'coco/bbox_mAP': 'Box AP, %',
    'coco/segm_mAP': 'Mask AP, %',
}
"""The scalars that are drawn where they were recorded, and the titles of their diagrams."""
COLORS = ('#3b82f6', '#f97316', '#10b981', '#a855f7', '#ef4444', '#eab308', '#06b6d4', '#84cc16')
"""The colours of the runs in turn; all readable on white and on near-black."""


@dataclass
class Series:
    """One scalar over a run."""

    unit: str
    """The unit of the steps: 'iteration' or 'epoch'."""
    points: dict[int, float] = field(default_factory=dict)
    """The value at each recorded step."""


@dataclass
class Run:
    """A training with all its resumptions: what was recorded, by name."""

    folder: Path
    series: dict[str, Series] = field(default_factory=dict)


def sessions(folder: Path) -> list[Path]:
    """Return the folders of all started trainings below a work dir, oldest first; mmengine names them by the time.

    ``folder`` may be such a folder itself. Tests record no scalars of training and are left out.
    """
    files = [folder / SCALARS] if (folder / SCALARS).is_file() else folder.glob(f'*/{SCALARS}')
    return sorted(file.parents[1] for file in files if any(_is_training(row) for row in read_records(file)))


def read_run(folder: Path) -> Run:
    """Read the curves of the newest training in a work dir, put together from the sessions in which it was resumed.

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
    rows = list(read_records(session / SCALARS))
    first = next(row for row in rows if _is_training(row))
    if not _was_resumed(session):
        run.series.clear()
    for series in run.series.values():
        begin = first['epoch' if series.unit == 'epoch' else 'step']
        series.points = {step: value for step, value in series.points.items() if step < begin}
    for row in rows:
        unit = 'epoch' if 'epoch' in first and not _is_training(row) else 'iteration'
        # Validation has a time per batch, too, which is not that of training.
        left_out = {'step', 'iter', 'epoch'} if _is_training(row) else first.keys()
        for name, value in row.items():
            if name not in left_out and isinstance(value, (int, float)):
                run.series.setdefault(name, Series(unit)).points[row['step']] = value


def _is_training(row: dict[str, Any]) -> bool:
    """Return whether a row was written by training; what validation writes has no iteration."""
    return 'iter' in row


def _was_resumed(session: Path) -> bool:
    config = session / 'vis_data/config.py'
    return config.is_file() and bool(read_recorded(config, 'remove it, and the curves do without').get('resume'))


def names_of(folders: Sequence[Path]) -> list[str]:
    """Return a name for each run: the last parts of its path, as many as tell the runs apart."""
    paths = [folder.resolve() for folder in folders]
    parts = next(n for n in count(1) if len({path.parts[-n:] for path in paths}) == len(set(paths)))
    return ['/'.join(path.parts[-parts:]) for path in paths]


def choose_keys(runs: Sequence[Run], keys: Sequence[str] | None = None) -> list[str]:
    """Return what to draw: ``keys``, or the keys of ``TITLES`` that at least one run has recorded.

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
    """Draw one scalar of all runs into one diagram."""
    from matplotlib.ticker import MaxNLocator

    units = set()
    for index, (run, name) in enumerate(zip(runs, names, strict=True)):
        series = run.series.get(key)
        if series is not None:
            marker = 'o' if len(series.points) < 30 else None
            color = COLORS[index % len(COLORS)]
            label = f' {name}' if name.startswith('_') else name  # matplotlib leaves the others out of its legends
            scale = 100 if key.startswith('coco/') else 1  # recorded as shares of 1; all papers give percent
            steps, values = list(series.points), [scale * value for value in series.points.values()]
            axes.plot(steps, values, marker=marker, markersize=3, linewidth=1.6, color=color, label=label)
            units.add(series.unit)
    axes.set_title(TITLES.get(key, key), fontsize=11, loc='left')
    axes.set_xlabel(' or '.join(sorted(units)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(visible=True, linewidth=0.5, alpha=0.35)
    axes.spines[['top', 'right']].set_visible(False)
    if key == 'lr':
        axes.yaxis.set_major_formatter('{x:g}')


def draw(runs: Sequence[Run], keys: Sequence[str] | None = None) -> Figure:
    """Draw all diagrams side by side, with one legend that names the runs.

    Raises:
        UserError: a key that no run has recorded.
    """
    import matplotlib
    from matplotlib.figure import Figure

    chosen, names = choose_keys(runs, keys), names_of([run.folder for run in runs])
    columns = 2 if len(chosen) == 4 else min(len(chosen), 3)
    lines = -(-len(chosen) // columns)
    figure = Figure(figsize=(5 * columns, 3.6 * lines), layout='constrained')
    with matplotlib.rc_context({'text.parse_math': False}):  # names of folders are no formulas
        for index, key in enumerate(chosen):
            draw_panel(figure.add_subplot(lines, columns, index + 1), runs, names, key)
        handles = {
            label: handle
            for axes in figure.axes
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(
            handles.values(), handles.keys(), loc='outside lower center', ncols=min(len(handles), 4), frameon=False
        )
    return figure
