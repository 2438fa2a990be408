"""Fonts for the names of classes: one that has their characters, of those that are installed."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

from mmengine.logging import print_log

DEFAULT = 'DejaVu Sans'
"""The font that matplotlib brings along; it has Latin, Greek and Cyrillic."""
ALWAYS = frozenset('0123456789%<+:.')
"""The characters that stand beside names."""
LONGEST = 48
"""The characters of a name that are written; more would make a picture as wide as they are long."""


@dataclass(frozen=True)
class NamesFont:
    """A font, and the names as it can write them."""

    path: str
    family: str
    names: tuple[str, ...]
    """The names in their order, each in one line and not too long; one that the font cannot write is its index."""


def font_for(names: Sequence[str]) -> NamesFont:
    """Choose the installed font that can write most of the names; if it cannot write all of them, warn once."""
    return _choose(tuple(map(str, names)))


@contextmanager
def matplotlib_font(font: NamesFont) -> Iterator[None]:
    """Let matplotlib write with a font inside a block."""
    import matplotlib

    with matplotlib.rc_context({'font.sans-serif': [font.family, DEFAULT], 'text.parse_math': False}):
        yield


@lru_cache(maxsize=32)
def _choose(names: tuple[str, ...]) -> NamesFont:
    from matplotlib.font_manager import findfont, findSystemFonts, fontManager, get_font

    default = str(findfont(DEFAULT))
    path, missing = default, _missing(default, names)
    if missing:
        candidates = sorted(findSystemFonts())
        path, missing = min(((path, _missing(path, names)) for path in (default, *candidates)), key=lambda p: len(p[1]))
    if missing:
        examples = ', '.join(names[index] for index in sorted(missing)[:3])
        text = (
            f'no installed font can write {len(missing)} of {len(names)} class names ({examples}): pictures show their '
            f'index instead; install a font of that script, such as Noto'
        )
        print_log(text, logger='current', level=logging.WARNING)
    if path != default:
        fontManager.addfont(path)
    written = tuple(str(index) if index in missing else _shorten(name) for index, name in enumerate(names))
    return NamesFont(path, get_font(path).family_name, written)


def _shorten(name: str) -> str:
    """Bring a name to one line of ``LONGEST`` characters at most, with its beginning and its end."""
    line, half = ' '.join(name.split()), LONGEST // 2
    return line if len(line) <= LONGEST else f'{line[: half - 3]}...{line[-half:]}'


def _missing(path: str, names: Sequence[str]) -> set[int]:
    """Return the indices of the names that a font cannot write: all of them for a font that cannot be scaled."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
    except RuntimeError:  # FreeType cannot read the file
        return set(range(len(names)))
    known = {chr(code) for code in font.get_charmap()}
    if not font.scalable or not known >= ALWAYS:
        return set(range(len(names)))
    return {index for index, name in enumerate(names) if not set(filter(_is_visible, name)) <= known}


def _is_visible(char: str) -> bool:
    return unicodedata.category(char)[0] not in 'CZ'  # neither control and format characters nor spaces
