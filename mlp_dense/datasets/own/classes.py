"""Which class each value or colour of label maps stands for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from mlp_dense.datasets.own.scan import Key, Scan
from mlp_dense.datasets.own.tables import Entry
from mlp_dense.datasets.palette import Color, extend_palette
from mlp_dense.errors import UserError

IGNORED = 255
"""What mmseg leaves out of loss and metrics."""


@dataclass
class Classes:
    """The classes of label maps, and how their values become 0, 1, 2, ...

    Args:
        names: the class names.
        palette: their colours.
        keys: the value or colour of each class in the files.
        reduce_zero_label: whether the files count from 1, with 0 for not labelled.
        convert: whether index maps must be written, since mmseg cannot read the files as they are.
        ignored: values and colours that are no class.
        reason: how the files were understood, in words.
    """

    names: list[str]
    palette: list[Color]
    keys: list[Key]
    reduce_zero_label: bool = False
    convert: bool = False
    ignored: list[Key] = field(default_factory=list)
    reason: str = ''


def find_classes(scan: Scan, table: list[Entry], ignore: Iterable[str] = ()) -> Classes:
    """Tell which class each value or colour stands for.

    Args:
        scan: what the label maps hold.
        table: the names of the classes, with values or colours where a table has them; empty for none.
        ignore: names or values that are not to be learnt.

    Raises:
        UserError: the table does not fit the label maps, or fewer than two classes are left.
    """
    grey = all(isinstance(key, tuple) and len(set(key)) == 1 for key in scan.pixels)
    if scan.colored and grey and not any(entry.color for entry in table):
        classes = _by_values({key[0]: key for key in scan.pixels if isinstance(key, tuple)}, table, {})
        classes.convert, classes.reduce_zero_label = True, False
        classes.reason = f'grey label maps stored as RGB, {classes.reason}'
        classes.ignored = [(key, key, key) for key in classes.ignored if isinstance(key, int)]
    elif scan.colored:
        classes = _by_colors(scan, table)
    else:
        if any(entry.color for entry in table) and not {entry.color for entry in table} & set(scan.colors.values()):
            table = [entry._replace(value=index, color=None) for index, entry in enumerate(table)]
        keys = {key: key for key in scan.pixels if isinstance(key, int)}
        classes = _by_values(keys, _valued(table, scan.colors), scan.colors)
    _ignore(classes, list(ignore))
    if len(classes.names) < 2 or not set(classes.keys) & set(scan.pixels):
        raise UserError(
            f'the label maps hold {", ".join(map(str, sorted(scan.pixels)[:5]))} only, which leaves '
            f'{len(classes.names)} class; a segmentor needs two, such as background and object'
        )
    return classes


def _valued(table: list[Entry], colors: Mapping[Key, Color]) -> list[Entry]:
    """Give the classes of a table of colours the values that have these colours in the files' palettes."""
    values = {color: value for value, color in colors.items() if isinstance(value, int)}
    if not any(entry.color in values for entry in table):
        return table
    used = iter(value for value in range(256) if value not in colors)
    return [entry._replace(value=values[entry.color] if entry.color in values else next(used)) for entry in table]


def _by_colors(scan: Scan, table: list[Entry]) -> Classes:
    """Classes of coloured label maps."""
    colors = sorted(key for key in scan.pixels if isinstance(key, tuple))
    if not table:
        names = ['background' if color == (0, 0, 0) else 'color_{:02x}{:02x}{:02x}'.format(*color) for color in colors]
        return Classes(names, colors, [*colors], convert=True, reason='RGB label maps, one class a colour')
    if any(entry.color is None for entry in table):
        raise UserError('the label maps are RGB and the table of classes has no colours; write name,r,g,b in each line')
    palette = [entry.color for entry in table if entry.color]
    if not set(palette) & set(colors):
        raise UserError(f'no colour of the table occurs in the label maps, which hold {str(colors[:4])[1:-1]}, ...')
    unknown: list[Key] = [color for color in colors if color not in palette]
    return Classes(
        [entry.name for entry in table],
        palette,
        [*palette],
        False,
        True,
        unknown,
        'RGB label maps with a table of colours',
    )


def _by_values(keys: Mapping[int, Key], table: list[Entry], colors: Mapping[Key, Color]) -> Classes:
    """Classes of label maps of one channel; ``keys`` gives what stands in the files for each value."""
    values = sorted(keys)
    classes = _numbered(values, table)
    classes.palette = [entry.color for entry in table if entry.color]
    if len(classes.palette) < len(classes.names):
        shown = [colors[key] for key in classes.keys if key in colors]
        distinct = len(set(shown)) == len(classes.keys) and not _is_grey(shown)
        classes.palette = extend_palette(shown if distinct else (), len(classes.names))
    classes.keys = [keys.get(key, key) if isinstance(key, int) else key for key in classes.keys]
    return classes


def _is_grey(colors: Iterable[Color]) -> bool:
    """Tell whether all colours are grey, as those of a palette that nobody chose."""
    return all(color[0] == color[1] == color[2] for color in colors)


def _numbered(values: list[int], table: list[Entry]) -> Classes:
    """Tell which values are classes: 0..N-1, 1..N, 0 and 255, or any others, which must be converted."""
    if any(entry.value is not None for entry in table):
        keys = [entry.value for entry in table if entry.value is not None]
        names = [entry.name for entry in table]
        ignored = [value for value in values if value not in keys]
        direct = keys == list(range(len(keys))) and set(ignored) <= {IGNORED}
        shifted = keys == list(range(1, len(keys) + 1)) and set(ignored) <= {0, IGNORED}
        return Classes(names, [], [*keys], shifted, not (direct or shifted), [*ignored], 'values with a table of names')
    gaps = {after - before for before, after in pairwise(values)}
    spread = {values[0], values[-1]} == {0, 255} and min(gaps) > 1 and max(gaps) - min(gaps) <= 1
    if IGNORED in values and not spread and (len(values) > 2 or not table or len(table) != len(values)):
        inside, ignored = [value for value in values if value != IGNORED], [IGNORED]
    else:
        inside, ignored = values, []
    if not inside:
        raise UserError('the label maps hold 255 only, which means not labelled')
    if table:
        return _named(inside, [entry.name for entry in table], ignored)
    top = inside[-1]
    if not 0 <= inside[0] <= 1 or spread or top + 1 > 2 * len(inside) or top >= IGNORED:
        names = ['background', 'foreground'] if values == [0, 255] else [f'value_{value}' for value in inside]
        return Classes(names, [], [*inside], False, True, [*ignored], f'{len(inside)} values with gaps, one class each')
    first = int(inside[0] == 1)
    names = [f'class_{value}' for value in range(first, top + 1)]
    reason = f'values 1 to {top}; 0 is not labelled' if first else f'values 0 to {top}'
    return Classes(names, [], [*range(first, top + 1)], bool(first), False, [*ignored], reason)


def _named(inside: list[int], names: list[str], ignored: list[int]) -> Classes:
    """Number classes whose names have no values, in the order of the names."""
    count = len(names)
    if inside[0] >= 0 and inside[-1] < count:
        return Classes(names, [], [*range(count)], False, False, [*ignored], f'values 0 to {count - 1}, as the names')
    if inside[-1] == count:
        unlabelled: list[Key] = [*ignored, *([0] if 0 in inside else [])]
        reason = f'values 1 to {count}, as the names; 0 is not labelled'
        return Classes(names, [], [*range(1, count + 1)], True, False, unlabelled, reason)
    if len(inside) == count:
        return Classes(names, [], [*inside], False, True, [*ignored], 'values with gaps, in the order of the names')
    raise UserError(
        f'{count} classes are named and the label maps hold {len(inside)} values up to {inside[-1]}; write value,name'
    )


def _ignore(classes: Classes, ignore: list[str]) -> None:
    """Take the classes that the user names out."""
    for text in ignore:
        matches = [index for index, key in enumerate(classes.keys) if text in (classes.names[index], str(key))]
        if not matches:
            raise UserError(f'--ignore {text}: no class or value is called so, of {", ".join(classes.names[:10])}')
        first = matches[0] == 0 and not classes.convert and not classes.reduce_zero_label
        del classes.names[matches[0]], classes.palette[matches[0]]
        classes.ignored.append(classes.keys.pop(matches[0]))
        classes.reduce_zero_label, classes.convert = classes.reduce_zero_label or first, classes.convert or not first
        if classes.convert:
            classes.reduce_zero_label = False
