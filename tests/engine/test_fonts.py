"""Names of classes are written in a font that has their characters, or else by index."""

from __future__ import annotations

from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

from mlp_dense.engine import fonts
from mlp_dense.engine.fonts import font_for
from mlp_dense.engine.legend import draw_legend

CHINESE = '斑马'


def make_font(path, characters):
    """Write a font in which every character is a square."""
    names = ['.notdef', *(f'g{ord(char):x}' for char in characters)]
    builder = FontBuilder(100, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(char): f'g{ord(char):x}' for char in characters})
    pen = TTGlyphPen(None)
    for move, point in ((pen.moveTo, (10, 0)), (pen.lineTo, (10, 70)), (pen.lineTo, (80, 70)), (pen.lineTo, (80, 0))):
        move(point)
    pen.closePath()
    builder.setupGlyf(dict.fromkeys(names, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (90, 10)))
    builder.setupHorizontalHeader(ascent=80, descent=-20)
    builder.setupNameTable({'familyName': 'Squares', 'styleName': 'Regular'})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return str(path)


@pytest.fixture
def installed(monkeypatch):
    """Sets what fonts are installed, but for matplotlib's own."""
    fonts._choose.cache_clear()
    files: list[str] = []
    monkeypatch.setattr('matplotlib.font_manager.findSystemFonts', lambda *_: files)
    yield files
    fonts._choose.cache_clear()


@pytest.fixture
def told(monkeypatch):
    """What is logged."""
    texts: list[str] = []
    monkeypatch.setattr(fonts, 'print_log', lambda text, **_: texts.append(text))
    return texts


def test_usual_names_have_the_usual_font(installed, told):
    for names in (('zebra', 'Straße', 'зебра', 'ζέβρα'), ()):
        font = font_for(names)
        assert not told
        assert font.names == names and Path(font.path).name == 'DejaVuSans.ttf'


def test_a_font_that_has_the_names_is_taken(installed, tmp_path):
    ascii_only = make_font(tmp_path / 'a.ttf', [chr(code) for code in range(33, 127)])
    both = make_font(tmp_path / 'b.ttf', [chr(code) for code in range(33, 127)] + list(CHINESE))
    (tmp_path / 'broken.ttf').write_bytes(b'nothing')
    installed += [ascii_only, str(tmp_path / 'broken.ttf'), both]
    font = font_for(('kite', CHINESE))
    assert font.path == both and font.names == ('kite', CHINESE) and font.family == 'Squares'


def test_without_one_the_index_is_written_and_told_once(installed, told):
    for _ in range(2):
        assert font_for(('kite', CHINESE)).names == ('kite', '1')
    assert len(told) == 1 and f'can write 1 of 2 class names ({CHINESE}): pictures show their index' in told[0]


def test_a_long_name_keeps_its_ends_in_one_line(installed):
    names = (f'animal/{"x" * 180}/zebra', 'two\nlines  of text', 'n' * 48)
    short, line, same = font_for(names).names
    assert len(short) == 48 and short.startswith('animal/x') and short.endswith('x/zebra') and '...' in short
    assert (line, same) == ('two lines of text', names[2])
    panel = draw_legend([(name, (0, 0, 0)) for name in (short, *['a', 'b'] * 9)], 64, font_for(names).path)
    assert panel.shape[1] < 900  # only the first of ten columns is as wide as the long name
