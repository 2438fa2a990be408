"""The Markdown tables of models and configs in README.md and docs/model_zoo.md, between marker comments."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

from mlp_dense.engine.config import load_config
from mlp_dense.errors import UserError
from mlp_dense.stats.cost import COUNTED, Stats, arch_stats, config_stats
from mlp_dense.stats.published import RESULTS, SOURCES, Published
from mlp_dense.stats.recipes import HEADER, recipe_rows
from mlp_dense.timm_models import ARCHS, model_name

FILES = ('README.md', 'docs/model_zoo.md', 'docs/recipes.md')
METHODS = {'upernet': 'UperNet', 'semfpn': 'Semantic FPN', 'retinanet': 'RetinaNet', 'mask_rcnn': 'Mask R-CNN'}
MARKED = re.compile(r'(<!-- model_stats: (\S+) -->\n).*?(<!-- /model_stats -->)', re.DOTALL)

arch_stats = cache(arch_stats)  # several tables show an arch


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table. Columns whose heads end in ``:`` are aligned to the right."""
    rule = '|' + ''.join('---:|' if head.endswith(':') else '---|' for head in header)
    return '\n'.join([_line([head.removesuffix(':') for head in header]), rule, *map(_line, rows)]) + '\n'


def _line(cells: Sequence[str]) -> str:
    return '|' + ''.join(f' {cell} |' if cell else ' |' for cell in cells)


def millions(number: int) -> str:
    """In the unit of the tables."""
    return f'{number / 1e6:.2f} M'


def giga(number: int) -> str:
    """In the unit of the tables."""
    return f'{number / 1e9:.2f}'


def archs_of(family: str) -> list[str]:
    """Names of a family's archs, in its own order."""
    return [arch for of, arch in ARCHS.values() if of.__name__ == family]


def cyclemlp_table() -> str:
    """CycleMLP's archs with all published results, for the README."""
    header = ['arch', 'channels', 'parameters:', 'GMACs:', 'ImageNet top-1:']
    header += ['RetinaNet AP:', 'Mask R-CNN box / mask AP:', 'Semantic FPN mIoU:']
    rows = []
    for arch in archs_of('CycleMLP'):
        stats = arch_stats('CycleMLP', arch)
        channels = ', '.join(str(level.channels) for level in stats.levels)
        cost = (millions(stats.model.parameters), giga(stats.model.macs))
        rows.append((arch, channels, *cost, *RESULTS['CycleMLP', arch]))
    return table(header, rows)


def others_table() -> str:
    """Archs of the other families, for the README."""
    rows, before = [], ''
    for family in dict.fromkeys(of.__name__ for of, _ in ARCHS.values()):
        for arch in archs_of(family) if family != 'CycleMLP' else ():
            stats = arch_stats(family, arch)
            cells = (arch, strides(stats), millions(stats.model.parameters), giga(stats.model.macs))
            top1 = RESULTS.get((family, arch), Published()).top1
            rows.append((f'`{family}`' if family != before else '', *cells, top1))
            before = family
    return table(('type', 'arch', 'strides', 'parameters:', 'GMACs:', 'ImageNet top-1:'), rows)


def strides(stats: Stats) -> str:
    """Of the levels, as text."""
    return ', '.join(str(level.stride) for level in stats.levels)


def archs_table() -> str:
    """Every arch as a classifier, and the maps of its dense form, for the docs."""
    rows = []
    for family, arch in ARCHS.values():
        stats = arch_stats(family.__name__, arch)
        costs = (millions(stats.model.parameters), giga(stats.model.macs), millions(stats.model.activations))
        maps = ', '.join(f'{level.channels} x {level.height} x {level.width}' for level in stats.levels)
        top1 = RESULTS.get((family.__name__, arch), Published()).top1
        rows.append(
            (f'`{family.__name__}` {arch}', f'`{model_name(family, arch)}`', *costs, strides(stats), maps, top1)
        )
    header = ('type, arch', 'in timm', 'parameters:', 'GMACs:', 'activations:', 'strides', 'maps', 'top-1:')
    return table(header, rows)


def config_row(path: Path, size: tuple[int, int] | None = None) -> tuple[str, ...]:
    """A config's line in the docs. Arguments as in :func:`mlp_dense.stats.cost.config_stats`."""
    stats = config_stats(load_config(str(path)), size)
    cells = [f'{stats.size[0]} x {stats.size[1]}']
    for one in (stats.model, stats.backbone):
        cells += [millions(one.parameters), giga(one.macs)]
    return (f'`{path.name}`', *cells)


def configs_table(rows: Iterable[Sequence[str]]) -> str:
    """Lines of :func:`config_row`, for the docs."""
    return table(('config', 'image', 'parameters:', 'GMACs:', 'backbone parameters:', 'backbone GMACs:'), rows)


def of_method(method: str, configs: Iterable[Path]) -> list[Path]:
    """The configs of one method."""
    return [path for path in configs if path.name.startswith(f'{method}_')]


def recipes_table(configs: Sequence[Path]) -> str:
    """The training settings of all configs."""
    return table(HEADER, (row for method in METHODS for row in recipe_rows(method, of_method(method, configs))))


def results_table() -> str:
    """The papers' results on dense tasks, for the docs."""
    dense = {key: result for key, result in RESULTS.items() if any(result[1:])}
    header = ('type, arch', 'RetinaNet AP:', 'Mask R-CNN box / mask AP:', 'Semantic FPN mIoU:')
    return table(header, [(f'`{family}` {arch}', *result[1:]) for (family, arch), result in dense.items()])


def sources() -> str:
    """Where the published figures come from."""
    return ''.join(f'- `{family}`: {source}\n' for family, source in SOURCES.items())


def block(name: str, configs: Sequence[Path], row: Callable[[Path], tuple[str, ...]] = config_row) -> str:
    """What stands between the markers of this name.

    Args:
        name: ``cyclemlp``, ``others``, ``archs``, ``results``, ``sources``, ``counted``, ``recipes``, or a
            method's.
        configs: the project's config files.
        row: what makes a config's line.

    Raises:
        UserError: there is no such block.
    """
    makers = {'cyclemlp': cyclemlp_table, 'others': others_table, 'archs': archs_table, 'results': results_table}
    makers |= {'sources': sources, 'counted': lambda: f'{textwrap.fill(COUNTED, 120)}\n'}
    makers |= {'recipes': lambda: recipes_table(configs)}
    if name in METHODS:
        return configs_table(row(path) for path in of_method(name, configs))
    if name not in makers:
        raise UserError(f'<!-- model_stats: {name} --> is none of {", ".join([*makers, *METHODS])}')
    return makers[name]()


def refresh(text: str, make: Callable[[str], str]) -> str:
    """A file's text with every marked block made anew by ``make(name)``.

    Raises:
        UserError: a marker has no end.
    """
    fresh = MARKED.sub(lambda found: found[1] + make(found[2]) + found[3], text)
    if len(MARKED.findall(text)) != text.count('<!-- model_stats: '):
        raise UserError('a <!-- model_stats: NAME --> line has no <!-- /model_stats --> behind it')
    return fresh
