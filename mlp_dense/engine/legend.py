"""The legend beside a picture: a coloured square and a text for each class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont


def draw_legend(
    entries: Sequence[tuple[str, Sequence[int]]], height: int, font_path: str, names: Sequence[str] | None = None
) -> np.ndarray:
    """Draw a white panel (height, width, 3) with a coloured square and a text for each class.

    Args:
        entries: text and colour (RGB).
        height: in pixels.
        font_path: the file of the font.
        names: all texts that there may be: the panel has one column as wide as the longest of them, and says how many
            classes did not find room. None: as many columns as are needed, each as wide as its texts.
    """
    row = max(22, height // 40)  # pixels
    font, gap = ImageFont.truetype(font_path, round(0.62 * row)), row // 3
    texts = [text for text, _ in entries]
    rows = max((height - 2 * gap) // row, 1)
    if names is not None and len(texts) > rows:
        texts = [*texts[: rows - 1], f'+ {len(texts) - rows + 1} more']
    columns = [texts[first : first + rows] for first in range(0, len(texts), rows)] if names is None else [names]
    widths = [round(max(map(font.getlength, column), default=0)) + row + 2 * gap for column in columns or [()]]
    panel = Image.new('RGB', (sum(widths), height), 'white')
    draw = ImageDraw.Draw(panel)
    for i, (text, (name, color)) in enumerate(zip(texts, entries, strict=False)):
        left, top = sum(widths[: i // rows]) + gap, i % rows * row + gap
        if text is name:
            draw.rectangle((left, top + 3, left + row - 7, top + row - 4), fill=tuple(color), outline='black')
        draw.text((left + row, top + row / 2), text, fill='black', font=font, anchor='lm')
    return np.asarray(panel)
