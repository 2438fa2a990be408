"""Operators written out for ONNX give what PyTorch's own give."""

import pytest
import torch
import torch.nn.functional as F

from mlp_dense.export.onnx_rewrites import adaptive_mean, bicubic

SIZES = [((7, 5), (3, 9)), ((14, 14), (14, 30)), ((1, 4), (5, 1)), ((33, 20), (14, 14)), ((6, 3), (6, 3))]


@pytest.mark.parametrize(('old', 'new'), SIZES, ids=str)
def test_bicubic(old, new):
    x = torch.randn(2, 3, *old, dtype=torch.float64)
    expected = F.interpolate(x, size=new, mode='bicubic', align_corners=False)
    torch.testing.assert_close(bicubic(x, new, False), expected)


@pytest.mark.parametrize(('old', 'new'), SIZES, ids=str)
def test_adaptive_mean(old, new):
    x = torch.randn(2, 3, *old, dtype=torch.float64)
    torch.testing.assert_close(adaptive_mean(x, new), F.adaptive_avg_pool2d(x, new))


@pytest.mark.parametrize('options', [{'align_corners': True}, {'align_corners': False, 'scale_factors': [2.0, 2.0]}])
def test_other_bicubic_resizing_is_refused(options):
    with pytest.raises(NotImplementedError, match='for a size and without aligned corners only'):
        bicubic(torch.zeros(1, 1, 4, 4), (8, 8), **options)
