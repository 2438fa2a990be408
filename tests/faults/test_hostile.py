"""Files that want to fill the memory, to leave their folder or to run code: one line with the file's name, and no more.

The checks refuse them by their heads, so that each case takes milliseconds; what each would take is not tried.
"""

from __future__ import annotations

import io
import json
import os
import resource
import struct
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from mlp_dense.checkpoints import CheckpointError, read_checkpoint
from mlp_dense.datasets.checks.coco import content_findings, read_coco
from mlp_dense.datasets.checks.images import leaves_folder, read_picture
from mlp_dense.datasets.checks.labels import read_labels
from mlp_dense.datasets.heads import check_head
from mlp_dense.datasets.images import open_picture
from mlp_dense.datasets.own.scan import read_map
from mlp_dense.errors import UserError

MEMORY = 100  # MiB that a refusal may take; the readers' own libraries are imported in it


@pytest.fixture(autouse=True)
def bounded():
    """Fail a test in which the memory of this process has grown by more than MEMORY."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY * 1024


def png(width, height, rows=1):
    """A PNG of black pixels in RGB, which may hold fewer rows than its head says."""

    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    packer = zlib.compressobj(1)
    data = b''.join(packer.compress(bytes(1 + 3 * width)) for _ in range(rows)) + packer.flush()
    head = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + chunk(b'IDAT', data) + chunk(b'IEND', b'')


def patched(kind, place, form, width, height):
    """A small picture of Pillow's whose head has another size."""
    file = io.BytesIO()
    Image.new('RGB', (64, 64)).save(file, kind)
    data = bytearray(file.getvalue())
    start = place if isinstance(place, int) else data.index(place) + 5
    data[start : start + 4] = struct.pack(form, *((height, width) if form[0] == '>' else (width, height)))
    return bytes(data)


def tiff(width, height, bands=1):
    tags = [(256, width), (257, height), (258, 16), (259, 1), (262, 1), (273, 200), (277, bands), (278, height)]
    entries = b''.join(struct.pack('<HHII', tag, 4, 1, value) for tag, value in [*tags, (279, 100)])
    return b'II*\0' + struct.pack('<IH', 8, len(tags) + 1) + entries + bytes(300)


IMAGES = {
    'lying.png': (png(30000, 30000), 'promises 30000 x 30000'),
    'beyond.png': (png(2**20, 2**20), 'more than can be decoded'),
    'wide.png': (png(100000, 1), 'too narrow'),
    'high.png': (png(1, 100000, 100), 'too narrow'),
    'lying.jpg': (patched('JPEG', b'\xff\xc0', '>HH', 10000, 10000), 'promises 10000 x 10000'),
    'beyond.jpg': (patched('JPEG', b'\xff\xc0', '>HH', 65500, 65500), 'more than can be decoded'),
    'lying.gif': (patched('GIF', 6, '<HH', 65535, 65535), 'more than can be decoded'),
    'lying.bmp': (patched('BMP', 18, '<HH', 30000, 0), 'pixels|decoded'),
    'lying.ppm': (b'P6 30000 30000 255\n' + bytes(99), 'promises 30000 x 30000'),
    'lying.tif': (tiff(30000, 30000), 'promises 30000 x 30000'),
    'beyond.tif': (tiff(100000, 100000), 'more than can be decoded'),
    'bands.tif': (tiff(1000, 1000, 65535), 'promises 1000 x 1000'),
    'circle.tif': (b'II*\0' + struct.pack('<IHI', 8, 0, 8) + bytes(50), 'holds no pixels'),
}


@pytest.mark.parametrize('name', IMAGES)
def test_an_image_that_its_file_cannot_hold_is_refused_by_every_reader(name, tmp_path):
    data, fault = IMAGES[name]
    path = tmp_path / name
    path.write_bytes(data)
    for read in (open_picture, lambda file: read_map(path)):
        with pytest.raises(UserError, match=fault) as error:
            read(str(path))
        assert name in str(error.value) and '\n' not in str(error.value)
    assert read_picture(str(path)).fault and read_labels(str(path)).picture.fault


def test_postscript_is_not_run(tmp_path, monkeypatch):
    monkeypatch.setattr('subprocess.check_call', lambda *args, **options: pytest.fail(f'ran {args}'))
    monkeypatch.setattr('shutil.which', lambda name, **options: f'/usr/bin/{name}')
    (tmp_path / 'x.png').write_bytes(b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n')
    with pytest.raises(UserError, match=r'x\.png cannot be decoded'):
        open_picture(str(tmp_path / 'x.png'))


def test_large_pictures_that_their_files_hold_are_taken(tmp_path):
    Image.new('RGB', (64, 64)).save(tmp_path / 'plain.webp', lossless=True)
    plain = bytearray((tmp_path / 'plain.webp').read_bytes())
    plain[21:25] = struct.pack('<I', 7999 | 5999 << 14)  # the size; one colour of any size is as long
    for name, data in {
        'plain.webp': plain,
        'large.png': png(20000, 10000, 10000),
        'strip.png': png(64, 64000, 100),
    }.items():
        (tmp_path / name).write_bytes(data)
        check_head(str(tmp_path / name))


def zipped(path, compression, content):
    with zipfile.ZipFile(path, 'w', compression) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def array_file(values):
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def save_safetensors(path, head, length=None):
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    path.write_bytes(struct.pack('<Q', len(text) if length is None else length) + text + bytes(16))


def repack(path, state):
    torch.save({'state_dict': state}, path)
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    zipped(path, zipfile.ZIP_DEFLATED, content)


ENTRY = {'dtype': 'F32', 'shape': [4], 'data_offsets': [0, 16]}
ZEROS = bytes(80_000_000)  # in place of hundreds of MB
FILES = {
    'packed.pth': lambda path: repack(path, {'x': torch.ones(4)}),
    'zeros.npz': lambda path: zipped(path, zipfile.ZIP_DEFLATED, {'x.npy': ZEROS}),
    'lzma.npz': lambda path: zipped(path, zipfile.ZIP_LZMA, {'x.npy': array_file(np.ones(4))}),
    'bzip2.npz': lambda path: zipped(path, zipfile.ZIP_BZIP2, {'x.npy': array_file(np.ones(4))}),
    'expanded.pth': lambda path: torch.save({'x': torch.ones(1).expand(10**10)}, path),
    'shared.pth': lambda path: torch.save(dict.fromkeys(map(str, range(3000)), torch.ones(10**5)), path),
    'length.safetensors': lambda path: save_safetensors(path, {}, 2**60),
    'overlap.safetensors': lambda path: save_safetensors(path, {'a': ENTRY, 'b': ENTRY}),
    'dtype.safetensors': lambda path: save_safetensors(path, {'a': {**ENTRY, 'dtype': 'Q9'}}),
    'shape.safetensors': lambda path: save_safetensors(path, {'a': {**ENTRY, 'shape': [2**62, 4]}}),
    'brackets.safetensors': lambda path: save_safetensors(path, b'[' * 10**6),
    'keys.safetensors': lambda path: save_safetensors(path, b'{"a":' * 10**6),
    'meta.safetensors': lambda path: save_safetensors(path, {'__metadata__': {'meta': '[' * 10**6}, 'a': ENTRY}),
}


@pytest.mark.parametrize('name', FILES)
def test_a_checkpoint_that_unpacks_to_more_than_it_holds_is_refused(name, tmp_path):
    FILES[name](tmp_path / name)
    with pytest.raises(CheckpointError, match=name) as error:
        read_checkpoint(str(tmp_path / name))
    assert '\n' not in str(error.value)


def test_a_few_tuples_in_endless_places_are_read_as_what_they_are(tmp_path):
    nested = ('x',) * 10
    for _ in range(12):
        nested = (nested,) * 10
    torch.save({'state_dict': {'w': torch.ones(1)}, 'meta': {'x': nested}}, tmp_path / 'x.pth')
    assert read_checkpoint(str(tmp_path / 'x.pth'))['meta']['x'][9][9][0][0] is not None


@pytest.mark.parametrize('text', ['[' * 10**6, '{"images":' * 10**5, '{"images":[{"id":' + '9' * 5000 + '}]}'])
def test_json_without_end_is_one_line(text, tmp_path):
    (tmp_path / 'bomb.json').write_text(text)
    with pytest.raises(UserError, match=r'bomb\.json') as error:
        read_coco(str(tmp_path / 'bomb.json'))
    assert '\n' not in str(error.value)


SQUARE = [[0, 0, 9, 0, 9, 9]]
ANNOTATIONS = {
    'a far polygon': ('annotations', {'segmentation': [[0, 0, 1e9, 0, 1e9, 1e9]]}, 'finite numbers of pixels'),
    'a number beyond floats': ('annotations', {'segmentation': [[0, 0, 10**400, 0, 1, 1]]}, 'finite numbers'),
    'a long polygon': ('annotations', {'segmentation': [[0, 0, 1e7, 0] * 9]}, 'outline'),
    'no number': ('annotations', {'segmentation': [[float('nan')] * 6]}, 'finite numbers'),
    'a run without end': ('annotations', {'segmentation': {'size': [64, 64], 'counts': 'o' * 10**5}}, 'do not add up'),
    'a far box': ('annotations', {'bbox': [0, 0, 1e308, 1e308]}, 'four finite numbers'),
    'a long image id': ('images', {'id': 10**30}, 'is none'),
    'a long category id': ('categories', {'id': 10**30}, 'is none'),
    'a size beyond decoding': ('images', {'width': 1e9, 'height': 1e9}, 'cannot be decoded'),
    'a name elsewhere': ('images', {'file_name': '../../../etc/x.png'}, 'leaves the folder'),
    'a name of commands': ('categories', {'name': 'x\x1b[2J'}, 'control characters'),
}


@pytest.mark.parametrize('name', ANNOTATIONS)
def test_annotations_that_would_fill_the_memory_or_leave_the_folder_are_errors(name, tmp_path):
    key, change, fault = ANNOTATIONS[name]
    annotation = {'id': 1, 'image_id': 1, 'category_id': 1, 'bbox': [0, 0, 9, 9], 'segmentation': SQUARE}
    image = {'id': 1, 'file_name': 'a.png', 'width': 64, 'height': 64}
    content = {'images': [image], 'categories': [{'id': 1, 'name': 'x'}], 'annotations': [annotation]}
    options = dict(with_mask=True, is_training=True, derivable=False, folder=str(tmp_path / 'a'), root=str(tmp_path))
    assert not list(content_findings(content, 'x.json', **options))
    content[key][0].update(change)
    errors = [str(found) for found in content_findings(content, 'x.json', **options) if found.level == 'error']
    assert errors and fault in errors[0] and errors[0].isprintable()


def test_names_stay_in_the_folder_of_the_data_and_links_in_it_are_followed(tmp_path):
    (tmp_path / 'data/images').mkdir(parents=True)
    (tmp_path / 'far/in').mkdir(parents=True)
    os.symlink(tmp_path / 'far/in', tmp_path / 'data/images/link')
    folders = str(tmp_path / 'data/images'), str(tmp_path / 'data')
    for name in ('a.png', 'b/../a.png', 'link/a.png', '..a.png'):
        assert leaves_folder(name, *folders) is None, name
    assert leaves_folder('../masks/a.png', *folders) == leaves_folder(f'{folders[1]}/a.png', *folders) == 'warning'
    for name in ('../../a.png', '/etc/a.png', 'link/../a.png', 'a\0.png'):
        assert leaves_folder(name, *folders) == 'error', name
