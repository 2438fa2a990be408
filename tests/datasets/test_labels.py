"""Labels that do not fit are named as they are loaded, in data too large to be looked through before the start."""

from __future__ import annotations

import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile, Resize
from mmseg.datasets import BaseSegDataset
from mmseg.datasets.transforms import LoadAnnotations
from PIL import Image

from mlp_dense.datasets.heads import ImageFileError
from mlp_dense.datasets.labels import watch_labels


@pytest.fixture
def dataset(tmp_path):
    """A data set of one image, 32 x 24, and two classes; labels of 0 are ignored."""
    (tmp_path / 'img').mkdir()
    (tmp_path / 'lab').mkdir()
    Image.new('RGB', (32, 24)).save(tmp_path / 'img/a.jpg')
    return BaseSegDataset(
        data_root=str(tmp_path),
        data_prefix=dict(img_path='img', seg_map_path='lab'),
        metainfo=dict(classes=('x', 'y')),
        reduce_zero_label=True,
        serialize_data=False,  # serializing collects garbage for seconds
        pipeline=[LoadImageFromFile(), LoadAnnotations(), Resize(scale=(8, 8))],  # classes: no default scope is set
    )


@pytest.mark.parametrize(
    ('labels', 'fault'),
    [
        (np.resize(np.array([0, 1, 2, 255], np.uint8), (24, 32)), None),
        (np.resize(np.array([0, 1, 3], np.uint8), (24, 32)), r'hold 2 when loaded, but the classes are 0 to 1'),
        (np.ones((32, 24), np.uint8), r'are of 24 x 32 pixels and the image of 32 x 24'),
        (np.ones((24, 32, 3), np.uint8), r'have 3 channels'),
        (np.resize(np.array([0, 1, 2, 255], np.uint16), (24, 32)), None),
        (np.resize(np.array([0, 1, 2, 258], np.uint16), (24, 32)), r'hold 258, which reading cuts to 8 bits \(2\)'),
    ],
)
def test_labels_are_checked_as_they_are_loaded(labels, fault, dataset, tmp_path):
    Image.fromarray(labels).save(tmp_path / 'lab/a.png')
    watch_labels(dataset)
    watch_labels(dataset)
    assert len(dataset.pipeline.transforms) == 4
    if fault is None:
        assert dataset[0]['gt_seg_map'].max() == 255
    else:
        with pytest.raises(ImageFileError, match=rf'labels .*lab/a\.png .*{fault}'):
            dataset[0]
