"""Names of classes, with their values or colours in label maps, from a table such as ``labelmap.txt``."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from mlp_dense.datasets.palette import Color
from mlp_dense.errors import UserError

FILE = re.compile(
    r'_?(class(es)?|class_?names|class_?dict|labels?|label_?map|label_?names|label_?colou?rs|categories|colou?r_?map|'
    r'palette)\.(txt|csv)',
    re.I,
)
GAP = r'[\s,:;]+'
COLORED = re.compile(
    rf'(?:\d+{GAP})?(?P<name>[^\s\d,:;].*?|\d+){GAP}(?P<color>\d+{GAP}\d+{GAP}\d+)(?:[\s,:;].*)?'
    rf'|(?P<color_first>\d+{GAP}\d+{GAP}\d+){GAP}(?P<name_last>\D.*)'
)
VALUED = re.compile(rf'(?P<value>\d+){GAP}(?P<name>\D.*)|(?P<name_first>\D.*?){GAP}(?P<value_last>\d+)')


class Entry(NamedTuple):
    """A class in a table: its name and, where the table has them, its value and its colour (R, G, B)."""

    name: str
    value: int | None = None
    color: Color | None = None


def read_table(root: Path, wanted: str = '', skip: Collection[Path] = ()) -> tuple[list[Entry], str]:
    """Read the names of the classes.

    Args:
        root: the data folder; a table in it is read where ``wanted`` names none.
        wanted: a file, or names with commas between them.
        skip: files in the folder that are no tables of classes.

    Returns:
        The classes in the order of the table, and the name of its file; nothing and '' where there is none.

    Raises:
        UserError: the file is missing or cannot be understood, or there are several.
    """
    if wanted and not Path(wanted).suffix and ',' in wanted:
        return [Entry(name.strip()) for name in wanted.split(',') if name.strip()], '--classes'
    if wanted and not Path(wanted).is_file():
        raise UserError(f'--classes {wanted} is no file; name one, or give the names as a,b,c')
    files = [Path(wanted)] if wanted else sorted(path for path in root.iterdir() if FILE.fullmatch(path.name))
    files = [path for path in files if path.is_file() and path not in skip]
    if len(files) > 1:
        raise UserError(f'{root} holds {" and ".join(path.name for path in files)}; choose with --classes FILE')
    return (parse_table(files[0]), wanted or str(files[0])) if files else ([], '')


def parse_table(file: Path) -> list[Entry]:
    """Read a table of one class in a line: ``name``, ``value name``, ``name r g b``, with spaces, commas or colons.

    Raises:
        UserError: the file is empty or no text, or only some lines have a value or a colour.
    """
    try:
        lines = [line.strip().replace('"', '') for line in file.read_text(encoding='utf-8-sig').splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{file} cannot be read as a table of classes ({error})') from error
    lines = [line for line in lines if line and not line.startswith('#')]
    entries = [_parse_line(line) for line in lines]
    if len({entry.name for entry in entries}) < len(entries):
        entries = [Entry(line) if entry.color is None else entry for line, entry in zip(lines, entries, strict=True)]
    for what in ('color', 'value'):
        bare = [index for index, entry in enumerate(entries) if getattr(entry, what) is None]
        if bare == [0] and len(entries) > 1:
            entries, lines = entries[1:], lines[1:]  # a heading
        elif bare and len(bare) < len(entries):
            raise UserError(f'{file}: {lines[bare[0]]!r} has no {what} and other lines have; write name,r,g,b in each')
    if not entries or len({entry.name for entry in entries}) < len(entries):
        fault = 'a class twice' if entries else 'no class'
        raise UserError(f'{file} holds {fault}; write one name, or name,r,g,b, a line')
    return entries


def _parse_line(line: str) -> Entry:
    """Read one line of a table."""
    if match := COLORED.fullmatch(line):
        red, green, blue = map(int, re.findall(r'\d+', match['color'] or match['color_first']))
        if max(red, green, blue) < 256:
            return Entry((match['name'] or match['name_last']).strip(), color=(red, green, blue))
    if match := VALUED.fullmatch(line):
        return Entry((match['name'] or match['name_first']).strip(), value=int(match['value'] or match['value_last']))
    return Entry(line.strip(' ,:;'))
