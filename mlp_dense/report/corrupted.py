"""Sheets that show one image under corruptions: a row for each, a column for each severity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from PIL import Image, ImageDraw, ImageFont
from rich.progress import track

from mlp_dense.datasets.corruptions import SEVERITIES, corruption_names, insert_corruption
from mlp_dense.datasets.images import resize, to_rgb
from mlp_dense.engine.checks import innermost
from mlp_dense.engine.fonts import font_for
from mlp_dense.engine.pictures import image_key, result_names
from mlp_dense.report.browsing import open_split, picture_path

CELL = 224
"""Pixels of the longer edge of an image on a sheet."""
MARGIN, LINE = 4, 22
"""Pixels between images, and of a line of text."""


def browse_corruptions(cfg: Config, split: str, number: int, out_dir: Path, names: Sequence[str] = ()) -> int:
    """Draw a sheet of each of some images of a split to ``out_dir/<index>_<name of the image>_corruptions.png``.

    The images are those that ``tools/test.py --corruptions`` gives to the model, before they are normalised.

    Args:
        cfg: a config of mmdet, mmseg or mmpretrain.
        split: 'train', 'val' or 'test'.
        number: how many sheets to draw at most.
        out_dir: the folder of the sheets; made if missing.
        names: see :func:`mlp_dense.datasets.corruptions.corruption_names`.

    Returns:
        The number of sheets drawn.

    Raises:
        UserError: a name is unknown, the config has no such split, its data are missing or broken or cannot be
            corrupted, or the folder cannot be written to.
    """
    corruptions = corruption_names(names)
    datasets = list(innermost(open_split(cfg, split, out_dir)))
    places = [(dataset, index) for dataset in datasets for index in range(len(dataset))]
    seed, is_classifier = (cfg.get('randomness') or {}).get('seed') or 0, cfg.default_scope == 'mmpretrain'
    distance = max(1, len(places) / number) if is_classifier else 1  # their images may be sorted by class
    steps = {id(dataset): insert_corruption(dataset.pipeline.transforms, is_classifier, seed) for dataset in datasets}
    files = result_names(datasets)
    chosen = [int(distance * count) for count in range(min(number, len(places)))]
    for place in track(chosen, f'Drawing {split}'):
        dataset, index = places[place]
        data, step = dataset.get_data_info(index), steps[id(dataset)]
        path = picture_path(out_dir, place, files.get(image_key(data), 'image'), '_corruptions')
        for transform in dataset.pipeline.transforms[: dataset.pipeline.transforms.index(step)]:
            data = transform(data)
        rows = [[_picture(data, step, dataset, shown) for shown in columns(corruption)] for corruption in corruptions]
        draw_sheet(corruptions, rows).save(path)
    return len(chosen)


def columns(corruption: str) -> list[tuple[str, int] | None]:
    """Return the columns of a sheet: None for the clean image, then a corruption at every severity."""
    return [None, *((corruption, severity) for severity in SEVERITIES)]


def _picture(data: dict[str, Any], step: Any, dataset: Any, condition: tuple[str, int] | None) -> np.ndarray:
    step.condition = condition
    image = np.asarray(step(dict(data))['img'])
    height, width = image.shape[:2]
    scale = CELL / max(height, width)
    picture = to_rgb(image, dataset.metainfo.get('rgb_bands'), step.is_bgr)
    return resize(picture, (round(height * scale) or 1, round(width * scale) or 1))


def draw_sheet(names: Sequence[str], rows: Sequence[Sequence[np.ndarray]]) -> Image.Image:
    """Draw pictures of one size (H, W, 3), RGB, in rows named on the left and columns named above."""
    heads = ['clean', *map(str, SEVERITIES)]
    height, width, _ = rows[0][0].shape
    font = ImageFont.truetype(font_for([*names, *heads]).path, 14)
    left = round(max(font.getlength(name) for name in names)) + 3 * MARGIN
    size = left + len(heads) * (width + MARGIN), LINE + len(rows) * (height + MARGIN)
    sheet = Image.new('RGB', size, 'white')
    draw = ImageDraw.Draw(sheet)
    for column, head in enumerate(heads):
        draw.text((left + column * (width + MARGIN), LINE / 2), head, fill='black', font=font, anchor='lm')
    for row, (name, pictures) in enumerate(zip(names, rows, strict=True)):
        top = LINE + row * (height + MARGIN)
        draw.text((MARGIN, top + height / 2), name, fill='black', font=font, anchor='lm')
        for column, picture in enumerate(pictures):
            sheet.paste(Image.fromarray(picture), (left + column * (width + MARGIN), top))
    return sheet
