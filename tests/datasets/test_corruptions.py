"""The corruptions of images: the same in every order and process, on the right colours, at the right place."""

from __future__ import annotations

import inspect
import sys

import imagecorruptions
import numpy as np
import pytest
from mmcv.transforms import CenterCrop, LoadImageFromFile, Normalize, Resize
from PIL import Image

from mlp_dense.datasets import corruptions
from mlp_dense.datasets.corruptions import Corruption, corrupt, corruption_names, insert_corruption
from mlp_dense.errors import UserError

FIFTEEN = [
    *('gaussian_noise', 'shot_noise', 'impulse_noise', 'defocus_blur', 'glass_blur', 'motion_blur', 'zoom_blur'),
    *('snow', 'frost', 'fog', 'brightness', 'contrast', 'elastic_transform', 'pixelate', 'jpeg_compression'),
]


def photo(height=40, width=56, seed=0):
    """A smooth picture (H, W, 3), RGB, of strong colours."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return np.array(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch):
    """Compiling a loop of glass_blur takes longer than all these tests."""
    module = sys.modules['imagecorruptions.corruptions']
    compiled = module._shuffle_pixels_njit_glass_blur
    monkeypatch.setattr(module, '_shuffle_pixels_njit_glass_blur', getattr(compiled, 'py_func', compiled))


def corrupted(image, condition, is_bgr=False):
    step = Corruption(is_bgr)
    step.condition = condition
    return step({'img': image, 'img_path': 'street.png'})['img']


@pytest.mark.parametrize('name', FIFTEEN)
def test_a_corruption_depends_on_its_arguments_alone(name):
    image = photo()
    np.random.seed(1)
    first = corrupt(image, name, 3)
    following = np.random.random()
    np.random.seed(1)
    assert np.random.random() == following  # the state of NumPy is as before
    corrupt(photo(seed=1), name, 2)
    assert np.array_equal(corrupt(image, name, 3), first)
    assert first.shape == image.shape
    assert first.dtype == np.uint8
    assert not np.array_equal(first, image)
    assert not np.array_equal(corrupt(image, name, 5), first)


@pytest.mark.parametrize('name', ['gaussian_noise', 'impulse_noise', 'glass_blur', 'frost'])
def test_the_seed_and_the_image_change_the_random_numbers(name):
    image, other = photo(), photo()
    other[0, 0] ^= 1
    assert not np.array_equal(corrupt(image, name, 3, seed=1), corrupt(image, name, 3, seed=0))
    difference = corrupt(image, name, 3)[8:] != corrupt(other, name, 3)[8:]  # far from the pixel that differs
    assert difference.any()


@pytest.mark.parametrize('name', ['brightness', 'snow', 'frost', 'jpeg_compression'])
def test_images_with_blue_first_are_corrupted_as_those_with_red_first(name):
    image = photo()
    expected = corrupt(image, name, 4)
    assert np.array_equal(corrupted(image, (name, 4)), expected)
    assert np.array_equal(
        corrupted(np.ascontiguousarray(image[..., ::-1]), (name, 4), is_bgr=True)[..., ::-1], expected
    )


def test_grey_float_and_pillow_images_keep_their_kind():
    image, condition = photo(), ('frost', 2)
    grey = image[..., 0]
    expected = corrupt(np.stack([grey] * 3, -1), *condition)[..., 1]
    assert np.array_equal(corrupted(grey, condition), expected)
    assert np.array_equal(corrupted(grey[..., None], condition), expected[..., None])
    assert corrupted(image.astype(np.float32), condition).dtype == np.float32
    assert np.array_equal(corrupted(image.astype(np.float32), condition), corrupt(image, *condition))
    pillow = corrupted(Image.fromarray(image), condition)
    assert isinstance(pillow, Image.Image)
    assert np.array_equal(np.asarray(pillow), corrupt(image, *condition))


@pytest.mark.parametrize(
    'image, reason',
    [
        (np.zeros((40, 40, 4), np.uint8), 'street.png has 4 bands'),
        (np.zeros((31, 40, 3), np.uint8), 'street.png is 40x31 pixels'),
        (np.full((40, 40, 3), 300, np.uint16), 'uint16, 300 to 300'),
        (np.full((40, 40), 0.5, np.float32), 'float32, 0.5 to 0.5'),
    ],
)
def test_an_image_that_cannot_be_corrupted_is_named_before_any_corruption(image, reason):
    with pytest.raises(UserError, match=reason):
        corrupted(image, None)


def test_a_clean_image_stays():
    image = photo()
    assert corrupted(image, None) is image


def test_names_and_groups():
    assert corruption_names() == FIFTEEN
    assert corruption_names(['snow', 'noise', 'snow']) == ['snow', 'gaussian_noise', 'shot_noise', 'impulse_noise']
    with pytest.raises(UserError, match='motionblur is unknown; use for example motion_blur'):
        corruption_names(['motionblur'])


def test_a_missing_package_and_one_without_seeds_are_told(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(imagecorruptions.corruption_dict, 'glass_blur', lambda image, severity: image)
        with pytest.raises(UserError, match=r'takes no seed.*pip install imagecorruptions-imaug'):
            corruption_names()
    monkeypatch.setattr(corruptions, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match='pip install imagecorruptions-imaug'):
        corruption_names()


def place_of(steps, is_classifier):
    step = insert_corruption(steps, is_classifier)
    return steps.index(step), step.is_bgr


def test_where_a_pipeline_corrupts():
    class PackInputs:
        pass

    class NumpyToPIL:
        to_rgb = True

    def dense():
        return [LoadImageFromFile(), Resize(scale=(8, 8)), Normalize(mean=[0], std=[1]), PackInputs()]

    assert place_of(dense(), False) == (1, True)  # as loaded
    assert place_of(dense(), True) == (2, True)  # as resized, but not normalised
    assert place_of([LoadImageFromFile(imdecode_backend='tifffile'), PackInputs()], False) == (1, False)
    assert place_of([LoadImageFromFile(), NumpyToPIL(), CenterCrop(8), PackInputs()], True) == (3, False)
    assert place_of([CenterCrop(8), PackInputs()], True) == (1, False)  # CIFAR: in memory, red first
    with pytest.raises(UserError, match='no step that loads an image'):
        insert_corruption([PackInputs()], False)


def test_random_numbers_of_the_package_that_are_not_numpys_get_the_seed():
    seeded = {
        name
        for name, function in imagecorruptions.corruption_dict.items()
        if 'seed' in inspect.signature(function).parameters
    }
    assert {'glass_blur', 'impulse_noise'} <= seeded
