"""Image files become pictures in one way: orientation, numbers of any type, any bands, sizes."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import tifffile
from mmcv.transforms import LoadImageFromFile
from mmengine.dataset import Compose
from PIL import Image, ImageOps

from mlp_dense.datasets.checks.images import read_picture
from mlp_dense.datasets.heads import ImageFileError, size_of
from mlp_dense.datasets.images import (
    LONG,
    ORIENTATION,
    CheckedPipeline,
    canvas_size,
    check_image,
    loads_bgr,
    open_picture,
    read_image,
    reduced_size,
    to_rgb,
)
from mlp_dense.errors import UserError


def halves(width=60, height=40):
    """An image whose upper half is red and whose lower half is blue, (H, W, 3), RGB."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, :, 0] = image[height // 2 :, :, 2] = 200
    return image


@pytest.mark.parametrize('orientation', range(1, 9))
def test_a_photo_is_turned_as_its_exif_says(orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(halves()).save(tmp_path / 'photo.png', exif=exif)
    picture, size = open_picture(str(tmp_path / 'photo.png'))
    with Image.open(tmp_path / 'photo.png') as file:
        expected = np.asarray(ImageOps.exif_transpose(file))
    assert np.array_equal(picture, expected)
    assert size == expected.shape[:2]
    load = LoadImageFromFile(imdecode_backend='pillow', color_type='unchanged')  # turns nothing: nor does the picture
    assert np.array_equal(open_picture(str(tmp_path / 'photo.png'), load=load)[0], halves())


@pytest.mark.parametrize('name', ['photo.webp', 'photo.jpg', 'photo.tif'])
def test_what_a_decoder_does_not_turn_is_turned_in_pipelines_and_pictures_alike(name, tmp_path):
    exif, path = Image.Exif(), str(tmp_path / name)
    for orientation in range(1, 9):
        exif[0x0112] = orientation
        path = str(tmp_path / f'{orientation}{name}')
        Image.fromarray(halves()).save(path, exif=exif, **{} if name.endswith('.jpg') else {'lossless': True})
        with Image.open(path) as file:
            expected = np.asarray(ImageOps.exif_transpose(file))
        load = LoadImageFromFile(imdecode_backend='tifffile' if name.endswith('.tif') else 'cv2')
        sample = CheckedPipeline(Compose([load]))({'img_path': path})
        image = sample['img'][..., ::-1] if loads_bgr(load) else sample['img']
        assert abs(image.astype(int) - expected).max() < 20 + 100 * name.endswith('.jpg')
        assert sample['img_shape'] == sample['ori_shape'] == expected.shape[:2]
        assert read_picture(path).size == expected.shape[1::-1]
        assert np.array_equal(open_picture(path, load=load)[0], image)


def test_a_file_that_is_replaced_is_read_anew(tmp_path):
    path, exif = str(tmp_path / 'photo.webp'), Image.Exif()
    for width, orientation in ((40, 1), (48, 6)):
        exif[ORIENTATION] = orientation
        Image.new('RGB', (width, 32)).save(path, exif=exif)
        assert size_of(path) == (width, 32)
        assert read_image(path, LoadImageFromFile()).shape[:2] == ((32, 40) if orientation == 1 else (48, 32))


def test_bands_are_those_that_are_named(tmp_path):
    bands = np.random.default_rng(0).integers(0, 4000, (30, 50, 5)).astype(np.uint16)
    bands[..., 1] = np.linspace(0, 4000, 50)
    tifffile.imwrite(tmp_path / 'bands.tif', bands)
    path = str(tmp_path / 'bands.tif')
    grey, _ = open_picture(path, (1,))
    assert grey.shape == (30, 50, 3) and grey[..., 0].min() == 0 and grey[..., 0].max() == 255
    assert (np.diff(grey[0, :, 0].astype(int)) >= 0).all() and (grey[..., :1] == grey).all()
    picture, _ = open_picture(path, [4, 1, 0])
    assert abs(picture[..., 1].astype(int) - grey[..., 0]).max() <= 8  # stretched together
    assert not np.array_equal(picture[..., 0], picture[..., 2])
    for wrong in ((0, 1, 5), (0, 1), (-1, 0, 1), ('a', 'b', 'c')):
        with pytest.raises(UserError, match=r'metainfo\.rgb_bands=.* does not fit an image of 5 bands'):
            open_picture(path, wrong)
    check_image(path)  # Pillow cannot read it


@pytest.mark.parametrize(
    ('image', 'expected'),
    [
        (np.array([[0, 128, 255]], np.uint8), [0, 128, 255]),
        (np.array([[0.0, 128.2, 255.0]], np.float32), [0, 128, 255]),  # 8 bits in a wider type stay
        (np.array([[0, 128, 255]], np.int64), [0, 128, 255]),
        (np.array([[0, 32768, 65535]], np.uint16), [0, 128, 255]),
        (np.array([[0.0, 0.5, 1.0]]), [0, 128, 255]),
        (np.array([[-1.0, 0.0, 1.0]]), [0, 128, 255]),
        (np.array([[np.nan, 0.0, 1.0]]), [0, 0, 255]),
        (np.array([[7.0, 7.0, 7.0]]) * 1000, [0, 0, 0]),
        (np.array([[False, True, True]]), [0, 255, 255]),
    ],
)
def test_numbers_of_any_type_become_8_bits(image, expected):
    picture = to_rgb(image)
    assert picture.dtype == np.uint8 and picture.shape == (1, 3, 3)
    assert abs(picture[0, :, 0].astype(int) - expected).max() <= 2


def test_order_of_bands():
    image = np.arange(4, dtype=np.uint8)[None, None].repeat(2, 0)
    assert to_rgb(image)[0, 0].tolist() == [2, 1, 0]  # OpenCV's, of which the fourth is opacity
    assert to_rgb(image, is_bgr=False)[0, 0].tolist() == [0, 1, 2]
    assert to_rgb(image, (3, 0, 1))[0, 0].tolist() == [3, 0, 1]
    assert to_rgb(image[..., :2])[0, 0].tolist() == [0, 0, 0]


def test_sizes():
    assert reduced_size((300, 500)) == (300, 500) and canvas_size((300, 500)) == (600, 1000)
    assert max(reduced_size((10000, 20000))) == max(canvas_size((10000, 20000))) == LONG
    assert reduced_size((1, 10**6)) == (1, LONG)
    assert to_rgb(np.zeros((400, 2000, 3), np.uint8), size=(20, 100)).shape == (20, 100, 3)


def test_a_large_image_is_no_attack_and_one_too_large_is_named(tmp_path):
    Image.new('1', (20000, 10000)).save(tmp_path / 'large.png')
    assert size_of(str(tmp_path / 'large.png')) == (20000, 10000)
    check_image(str(tmp_path / 'large.png'))
    limit = Image.MAX_IMAGE_PIXELS
    header = struct.pack('>2I5B', 40000, 40000, 8, 0, 0, 0, 0)  # a PNG of this size without its pixels
    parts = [(b'IHDR', header), (b'IDAT', zlib.compress(b'')), (b'IEND', b'')]
    chunks = [
        struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data)) for kind, data in parts
    ]
    (tmp_path / 'huge.png').write_bytes(b'\x89PNG\r\n\x1a\n' + b''.join(chunks))
    with pytest.raises(ImageFileError, match=r'huge\.png holds 40000 x 40000 pixels, more than can be decoded'):
        open_picture(str(tmp_path / 'huge.png'))
    assert limit == Image.MAX_IMAGE_PIXELS is not None


def test_a_broken_image_is_named(tmp_path):
    for name in ('a.png', 'a.tif'):
        (tmp_path / name).write_bytes(b'nothing')
        with pytest.raises(ImageFileError, match=f'{name} cannot be decoded'):
            open_picture(str(tmp_path / name))
    with pytest.raises(ImageFileError, match=r'b\.png does not exist'):
        open_picture(str(tmp_path / 'b.png'))


def test_a_file_that_the_step_cannot_decode_is_to_be_converted_to_what_it_can(tmp_path):
    Image.new('RGB', (4, 4)).save(tmp_path / 'a.jpg')
    with pytest.raises(ImageFileError, match=r'a\.jpg cannot be decoded \(not a TIFF .*; convert it to TIFF$'):
        read_image(str(tmp_path / 'a.jpg'), LoadImageFromFile(imdecode_backend='tifffile'))
