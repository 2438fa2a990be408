"""Which class each value or colour of label maps stands for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from mlp_dense.datasets.own.scan import Scan, pack, unpack
from mlp_dense.datasets.own.tables import Entry
from mlp_dense.datasets.palette import Color, extend_palette
from mlp_dense.errors import UserError

IGNORED = 255
"""What mmseg leaves out of loss and metrics."""
GREY = pack((1, 1, 1))
BACKGROUND = ('background', 'bg')
"""Names of a class that is numbered 0, so that label maps in which 0 occurs do not count from 1."""


@dataclass
class Classes:
    """The classes of label maps, and how their values become 0, 1, 2, ...

    Args:
        names: the class names.
        keys: the value or packed colour of each class in the files.
        reason: how the files were understood, in words.
        ignored: values and colours that are no class.
        reduce_zero_label: whether the files count from 1, with 0 for not labelled.
        convert: whether index maps must be written, since mmseg cannot read the files as they are.
        palette: the colours of the classes.
    """

    names: list[str]
    keys: list[int]
    reason: str
    ignored: list[int] = field(default_factory=list)
    reduce_zero_label: bool = False
    convert: bool = False
    palette: list[Color] = field(default_factory=list)


def find_classes(scan: Scan, table: list[Entry], ignore: Iterable[str] = ()) -> Classes:
    """Tell which class each value or colour stands for.

    Args:
        scan: what the label maps hold.
        table: the names of the classes, with values or colours where a table has them; empty for none.
        ignore: names or values that are not to be learnt.

    Raises:
        UserError: the table does not fit the label maps, or fewer than two classes are left.
    """
    listed = {entry.color for entry in table} - {None}
    if not scan.colored:
        if listed and not listed & {*scan.colors.values()}:
            table = [entry._replace(value=index, color=None) for index, entry in enumerate(table)]
        table = _valued(table, scan.colors)
        classes = _number(sorted(scan.pixels), table)
    elif not listed and all(key % GREY == 0 for key in scan.pixels):
        classes = _number(sorted(key // GREY for key in scan.pixels), table)
        classes.reason = f'grey label maps stored as RGB, {classes.reason}'
        classes.keys, classes.ignored = ([GREY * key for key in keys] for keys in (classes.keys, classes.ignored))
        classes.convert, classes.reduce_zero_label = True, False
    else:
        classes = _by_colors(scan, table)
    classes.palette = classes.palette or _choose_palette(classes, table, scan)
    for text in ignore:
        _leave_out(classes, text, scan)
    if len(classes.names) < 2 or not {*classes.keys} & {*scan.pixels}:
        raise UserError(
            f'the label maps hold {", ".join(map(scan.show, sorted(scan.pixels)[:5]))} only, which leaves '
            f'{len(classes.names)} class; a segmentor needs two, such as background and object'
        )
    if len(classes.names) > IGNORED - classes.reduce_zero_label:
        raise UserError(f'{len(classes.names)} classes; mmseg reads labels of 8 bits, which leave 0 to 254 for classes')
    return classes


def _choose_palette(classes: Classes, table: Sequence[Entry], scan: Scan) -> list[Color]:
    """Return the colours of the table, of the files, or new ones where those of the files are grey or not distinct."""
    listed = [entry.color for entry in table if entry.color]
    if len(listed) >= len(classes.names):
        return listed
    shown = [scan.colors[key] for key in classes.keys if key in scan.colors]
    chosen = len({*shown}) == len(classes.keys) and any(len({*color}) > 1 for color in shown)
    return extend_palette(shown if chosen else (), len(classes.names))


def _valued(table: list[Entry], colors: Mapping[int, Color]) -> list[Entry]:
    """Give the classes of a table of colours the values that have these colours in the files' palettes."""
    values = {color: value for value, color in colors.items()}
    if not any(entry.color in values for entry in table):
        return table
    unused = iter(value for value in range(256) if value not in colors)
    return [entry._replace(value=values[entry.color] if entry.color in values else next(unused)) for entry in table]


def _by_colors(scan: Scan, table: Sequence[Entry]) -> Classes:
    """Classes of coloured label maps."""
    keys = sorted(scan.pixels)
    if not table:
        names = [f'color_{key:06x}' if key else 'background' for key in keys]
        palette = [unpack(key) for key in keys]
        return Classes(names, keys, 'RGB label maps, one class a colour', convert=True, palette=palette)
    listed = [pack(entry.color) for entry in table if entry.color]
    if len(listed) < len(table):
        raise UserError('the label maps are RGB and the table of classes has no colours; write name,r,g,b in each line')
    if not {*listed} & {*keys}:
        colors = ', '.join(map(scan.show, keys[:4]))
        raise UserError(f'no colour of the table occurs in the label maps, which hold {colors}, ...')
    unknown, reason = [key for key in keys if key not in listed], 'RGB label maps with a table of colours'
    return Classes([entry.name for entry in table], listed, reason, unknown, convert=True)


def _number(values: list[int], table: Sequence[Entry]) -> Classes:
    """Tell which values are classes: 0..N-1, 1..N, 0 and 255, or any others, which must be converted."""
    names = [entry.name for entry in table]
    keys = [entry.value for entry in table if entry.value is not None]
    if keys:
        ignored = [value for value in values if value not in keys]
        direct = keys == [*range(len(keys))] and {*ignored} <= {IGNORED}
        shifted = keys == [*range(1, len(keys) + 1)] and {*ignored} <= {0, IGNORED}
        return Classes(names, keys, 'values with a table of names', ignored, shifted, not (direct or shifted))
    gaps = {after - before for before, after in pairwise(values)}
    spread = {values[0], values[-1]} == {0, 255} and min(gaps) > 1 and max(gaps) - min(gaps) <= 1
    ignored = [IGNORED] if IGNORED in values and not spread and (len(values) > 2 or len(names) != len(values)) else []
    inside = [value for value in values if value not in ignored]
    if not inside:
        raise UserError('the label maps hold 255 only, which means not labelled')
    if names:
        return _number_names(inside, names, ignored)
    top = inside[-1]
    if not 0 <= inside[0] <= 1 or spread or top + 1 > 2 * len(inside) or top >= IGNORED:
        names = ['background', 'foreground'] if values == [0, 255] else [f'value_{value}' for value in inside]
        return Classes(names, inside, f'{len(inside)} values with gaps, one class each', ignored, convert=True)
    keys = [*range(inside[0], top + 1)]
    reason = f'values {inside[0]} to {top}{"; 0 is not labelled" * inside[0]}'
    return Classes([f'class_{key}' for key in keys], keys, reason, ignored, inside[0] == 1)


def _number_names(inside: list[int], names: list[str], ignored: list[int]) -> Classes:
    """Number classes whose names have no values, in the order of the names."""
    count = len(names)
    if inside[0] >= 0 and inside[-1] < count:
        return Classes(names, [*range(count)], f'values 0 to {count - 1}, as the names', ignored)
    if inside[-1] == count and not (0 in inside and names[0].strip('_').lower() in BACKGROUND):
        reason = f'values 1 to {count}, as the names; 0 is not labelled'
        return Classes(names, [*range(1, count + 1)], reason, ignored + [0] * (0 in inside), reduce_zero_label=True)
    if len(inside) == count:
        return Classes(names, inside, 'values with gaps, in the order of the names', ignored, convert=True)
    raise UserError(
        f'{count} classes are named and the label maps hold {len(inside)} values up to {inside[-1]}; write value,name'
    )


def _leave_out(classes: Classes, text: str, scan: Scan) -> None:
    """Take the class of a name or value out."""
    matches = [index for index, key in enumerate(classes.keys) if text in (classes.names[index], scan.show(key))]
    if not matches:
        raise UserError(f'--ignore {text}: no class or value is called so, of {", ".join(classes.names[:10])}')
    index = matches[0]
    del classes.names[index], classes.palette[index]
    classes.ignored.append(classes.keys.pop(index))
    as_zero = index == 0 and not classes.convert and not classes.reduce_zero_label
    classes.convert, classes.reduce_zero_label = not as_zero, as_zero
