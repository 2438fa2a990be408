"""tools/browse.py --corruptions: a sheet has the clean image and the corrupted ones that a test gives to the model."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from runs import run_tool, small_config

from mlp_dense.datasets.corruptions import corrupt
from mlp_dense.datasets.images import resize
from mlp_dense.datasets.shapes import make_shapes
from mlp_dense.report.corrupted import CELL, LINE, MARGIN, draw_sheet


@pytest.mark.slow
def test_a_sheet_of_a_segmentor(tmp_path):
    make_shapes(tmp_path / 'data', train=2, val=2, size=(64, 48), seed=0)
    args = ('--split', 'val', '--number', 1, '--out-dir', tmp_path / 'made', '--corruptions', 'frost', 'brightness')
    done = run_tool('browse', small_config('semfpn'), *args, '--cfg-options', f'data_root={tmp_path / "data"}')
    assert done.code == 0, done.tail
    source = min((tmp_path / 'data/images/validation').iterdir())
    (path,) = (tmp_path / 'made').iterdir()
    assert path.name == f'00000_{source.stem}_corruptions.png'
    image, sheet = np.asarray(Image.open(source).convert('RGB')), np.asarray(Image.open(path))
    height, width = CELL * 48 // 64, CELL
    left = sheet.shape[1] - 6 * (width + MARGIN)
    for row, name in enumerate(('frost', 'brightness')):
        top = LINE + row * (height + MARGIN)
        for severity in range(6):
            start = left + severity * (width + MARGIN)
            cell = sheet[top : top + height, start : start + width]
            expected = corrupt(image, name, severity) if severity else image
            assert np.array_equal(cell, resize(expected, (height, width))), (name, severity)


def test_names_and_heads_stand_beside_the_pictures():
    white = np.full((40, 50, 3), 255, np.uint8)
    sheet = np.asarray(draw_sheet(['fog', 'jpeg_compression'], [[white] * 6] * 2))
    left = sheet.shape[1] - 6 * (50 + MARGIN)
    assert sheet[LINE : LINE + 40, :left].min() < 128  # a name in each row
    assert sheet[LINE + 40 + MARGIN :, :left].min() < 128
    assert all(sheet[:LINE, left + i * 54 : left + (i + 1) * 54].min() < 128 for i in range(6))
    assert sheet[LINE:, left:].min() == 255
