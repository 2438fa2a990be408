"""The papers' results for our archs, quoted in the docs' tables: none of them was measured here."""

from __future__ import annotations

from typing import NamedTuple

SOURCES = {
    'CycleMLP': "arXiv 2107.10224v1, tables 2, 5 and 6; t, s and b: the authors' repository",
    'VisionPermutator': 'arXiv 2106.12368v1, tables 2, 4 and 5',
    'DynaMixer': 'arXiv 2201.12083v2, table 2',
    'MLPMixer': 'arXiv 2105.01601, table 3, trained on ImageNet alone',
}


class Published(NamedTuple):
    """ImageNet-1K top-1 in %, AP on COCO val2017 after 12 epochs, mIoU on ADE20K at one scale; '' if not published."""

    top1: str = ''
    retinanet: str = ''
    """Box AP."""
    mask_rcnn: str = ''
    """Box AP / mask AP."""
    semfpn: str = ''


RESULTS: dict[tuple[str, str], Published] = {
    ('CycleMLP', 'b1'): Published('78.9', '38.6', '39.4 / 36.8', '39.5'),
    ('CycleMLP', 'b2'): Published('81.6', '40.9', '41.7 / 38.2', '42.4'),
    ('CycleMLP', 'b3'): Published('82.4', '42.5', '43.4 / 39.5', '44.5'),
    ('CycleMLP', 'b4'): Published('83.0', '43.2', '44.1 / 40.2', '45.1'),
    ('CycleMLP', 'b5'): Published('83.2', '42.7', '44.1 / 40.1', '45.6'),
    # The archs of these three were not released; ours are reconstructions.
    ('CycleMLP', 't'): Published('81.3 (its own)'),
    ('CycleMLP', 's'): Published('82.9 (its own)'),
    ('CycleMLP', 'b'): Published('83.4 (its own)'),
    ('VisionPermutator', 's14'): Published('80.6'),
    ('VisionPermutator', 's7'): Published('81.5'),
    ('VisionPermutator', 'm7'): Published('82.7'),
    ('VisionPermutator', 'l7'): Published('83.2'),
    ('DynaMixer', 's'): Published('82.7'),
    ('DynaMixer', 'm'): Published('83.7'),
    ('DynaMixer', 'l'): Published('84.3'),
    ('MLPMixer', 'b16'): Published('76.4'),
    ('MLPMixer', 'l16'): Published('71.8'),
}
