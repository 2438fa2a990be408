"""The Markdown tables of models and configs in README.md and docs, which stand there between marker comments."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

from mlp_dense.backbones._paper import Results, families
from mlp_dense.backbones._pyramid import PyramidMLP
from mlp_dense.engine.config import load_config
from mlp_dense.errors import UserError
from mlp_dense.stats.cost import COUNTED, Stats, arch_stats, config_stats
from mlp_dense.stats.recipes import HEADER, recipe_rows

FILES = ('README.md', 'docs/model_zoo.md', 'docs/recipes.md')
METHODS = {'upernet': 'UperNet', 'semfpn': 'Semantic FPN', 'retinanet': 'RetinaNet', 'mask_rcnn': 'Mask R-CNN'}
METHODS |= {'classify': 'Classification', 'finetune': 'Fine-tuning'}
MARKED = re.compile(r'(<!-- model_stats: (\S+) -->\n).*?(<!-- /model_stats -->)', re.DOTALL)

arch_stats = cache(arch_stats)  # several tables show an arch


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Make a Markdown table. Columns whose heads end in ``:`` are aligned to the right."""
    rule = '|' + ''.join('---:|' if head.endswith(':') else '---|' for head in header)
    return '\n'.join([_line([head.removesuffix(':') for head in header]), rule, *map(_line, rows)]) + '\n'


def _line(cells: Sequence[str]) -> str:
    return '|' + ''.join(f' {cell} |' if cell else ' |' for cell in cells)


def millions(number: int) -> str:
    """Write a number in the unit of the tables, 10^6."""
    return f'{number / 1e6:.2f} M'


def giga(number: int) -> str:
    """Write a number in the unit of the tables, 10^9."""
    return f'{number / 1e9:.2f}'


def models_table() -> str:
    """Make the table of every arch as a classifier, with all published results, for the README."""
    rows = []
    for family, arch, stats in _archs():
        name = f'`{family.__name__}`' if arch == next(iter(family.archs)) else ''
        cost = (millions(stats.model.parameters), giga(stats.model.macs))
        rows.append((name, arch, _strides(stats), *cost, *family.paper.results.get(arch, Results())))
    header = ['type', 'arch', 'strides', 'parameters:', 'GMACs:', 'ImageNet top-1:']
    return table([*header, 'RetinaNet AP:', 'Mask R-CNN box / mask AP:', 'Semantic FPN mIoU:'], rows)


def archs_table() -> str:
    """Make the table of every arch as a classifier, and of the maps of its dense form, for the docs."""
    rows = []
    for family, arch, stats in _archs():
        costs = (millions(stats.model.parameters), giga(stats.model.macs), millions(stats.model.activations))
        maps = ', '.join(f'{level.channels} x {level.height} x {level.width}' for level in stats.levels)
        names = (f'`{family.__name__}` {arch}', f'`{family.paper.prefix}_{arch}`')
        rows.append((*names, *costs, _strides(stats), maps))
    return table(('type, arch', 'in timm', 'parameters:', 'GMACs:', 'activations:', 'strides', 'maps'), rows)


def _archs() -> Iterator[tuple[type[PyramidMLP], str, Stats]]:
    for family in families():
        for arch in family.archs:
            yield family, arch, arch_stats(family.__name__, arch)


def _strides(stats: Stats) -> str:
    return ', '.join(str(level.stride) for level in stats.levels)


def config_row(path: Path, size: tuple[int, int] | None = None) -> tuple[str, ...]:
    """Make a config's line in the docs; ``size`` is (height, width) of the image, by default that of the config."""
    stats = config_stats(load_config(str(path)), size)
    height, width = stats.size
    cells = [f'{width}x{height}']
    for cost in (stats.model, stats.backbone):
        cells += [millions(cost.parameters), giga(cost.macs)]
    return (f'`{path.name}`', *cells)


def configs_table(rows: Iterable[Sequence[str]]) -> str:
    """Make the table of the lines that :func:`config_row` makes."""
    return table(('config', 'image', 'parameters:', 'GMACs:', 'backbone parameters:', 'backbone GMACs:'), rows)


def of_method(method: str, configs: Iterable[Path]) -> list[Path]:
    """Return the configs of one method."""
    return [path for path in configs if path.name.startswith(f'{method}_')]


def names_table(configs: Sequence[Path]) -> str:
    """Make the table of the families, sizes and methods of the configs.

    Their names are ``METHOD_FAMILY_SIZE_DATA.py`` and ``METHOD_FAMILY_shapes.py``.
    """
    stems, rows = {path.stem for path in configs}, []
    for family in families():
        prefix = family.paper.prefix
        shapes = [method for method in METHODS if f'{method}_{prefix}_shapes' in stems]
        dense = [stem for stem in stems if f'_{prefix}_' in stem and stem.endswith(('_ade20k', '_coco'))]
        sizes = [arch for arch in family.archs if any(f'_{prefix}_{arch}_' in stem for stem in dense)]
        methods = [method for method in METHODS if any(stem.startswith(f'{method}_') for stem in dense)]
        classifiers = [arch for arch in family.archs if f'classify_{prefix}_{arch}_imagenet' in stems]
        rows.append((f'`{prefix}`', *map(', '.join, (sizes, methods, shapes, classifiers))))
    header = ('family', 'sizes', 'methods on ADE20K and COCO', 'methods on Shapes', 'classifiers on ImageNet')
    return table(header, rows)


def recipes_table(configs: Sequence[Path]) -> str:
    """Make the table of the training settings of all configs."""
    return table(HEADER, (row for method in METHODS for row in recipe_rows(method, of_method(method, configs))))


def papers() -> str:
    """List the paper, code and licence of each family, and the tables that its results are from."""
    lines = []
    for family in families():
        paper = family.paper
        weights = f'weights of {", ".join(paper.weights)}' if paper.weights else 'no weights'
        line = f'- `{family.__name__}`: [{paper.title}](https://arxiv.org/abs/{paper.arxiv}), {paper.venue}; '
        line += f'[code]({paper.code}) and {weights}, licence {paper.licence}'
        lines.append(line + (f'; figures: {paper.results_source}' if paper.results_source else ''))
    return '\n'.join(lines) + '\n'


def released_table(configs: Iterable[Path]) -> str:
    """Make the table of the classifiers on ImageNet: the command that evaluates the released file, and its accuracy."""
    names, rows = {path.name for path in configs}, []
    for family in families():
        paper = family.paper
        for arch in family.archs:
            config = f'classify_{paper.prefix}_{arch}_imagenet.py'
            if config in names:
                file = paper.weights.get(arch)
                command = f'`python tools/test.py configs/{config} {file}`' if file else 'no released file that fits'
                measured = paper.evaluated.get(arch, '')
                figures = (paper.results.get(arch, Results()).top1, measured, measured and paper.evaluated_source)
                rows.append((f'`{family.__name__}` {arch}', command, *figures))
    return table(('type, arch', 'command', 'published top-1:', 'top-1 / top-5:', 'measured by'), rows)


def block(name: str, configs: Sequence[Path], row: Callable[[Path], tuple[str, ...]] = config_row) -> str:
    """Make what stands between the markers of this name.

    Args:
        name: ``families``, ``models``, ``archs``, ``papers``, ``released``, ``counted``, ``configs``, ``recipes``, or a
            method's.
        configs: the project's config files.
        row: what makes a config's line.

    Raises:
        UserError: there is no such block.
    """
    makers: dict[str, Callable[[], str]] = {'models': models_table, 'archs': archs_table, 'papers': papers}
    makers['released'] = lambda: released_table(configs)
    makers['counted'] = lambda: f'{textwrap.fill(COUNTED, 120)}\n'
    makers['families'] = lambda: ', '.join(f'`{family.__name__}`' for family in families()) + '\n'
    makers |= {'configs': lambda: names_table(configs), 'recipes': lambda: recipes_table(configs)}
    if name in METHODS:
        return configs_table(row(path) for path in of_method(name, configs))
    if name not in makers:
        raise UserError(f'<!-- model_stats: {name} --> is none of {", ".join([*makers, *METHODS])}')
    return makers[name]()


def refresh(text: str, make: Callable[[str], str]) -> str:
    """Return a file's text with every marked block made anew by ``make(name)``.

    Raises:
        UserError: a marker has no end.
    """
    fresh = MARKED.sub(lambda match: match[1] + make(match[2]) + match[3], text)
    if len(MARKED.findall(text)) != text.count('<!-- model_stats: '):
        raise UserError('a <!-- model_stats: NAME --> line has no <!-- /model_stats --> behind it')
    return fresh
