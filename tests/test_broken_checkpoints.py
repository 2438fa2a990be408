"""Files that are broken, of another kind, or hold other things than weights: each is told in one line."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch

from families import FAMILIES
from mlp_dense.checkpoints import CheckpointError, read_checkpoint

CYCLE = FAMILIES[0]


def foreign_zip(path):
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('word/document.xml', '<w/>')


def bad_meta(text):
    return lambda path: path.write_bytes(safetensors.torch.save({'w': torch.ones(1)}, {'meta': text}))


def cut(part):
    def write(path):
        torch.save(CYCLE.build().state_dict(), path)
        path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])

    return write


def half_safetensors(path):
    data = safetensors.torch.save({'w': torch.arange(64.0)})
    path.write_bytes(data[: len(data) - 100])


def flip(path, place):
    """Turn over one bit of a file."""
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)


def flipped(path):
    weights = torch.arange(64.0)
    torch.save({'state_dict': {'w': weights}}, path)
    flip(path, path.read_bytes().index(weights.numpy().tobytes()) + 100)


def state(value):
    return lambda path: torch.save({'state_dict': {'w': value}}, path)


QUANTISED = torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)
BAD = {
    'a bare list': ('x.pth', lambda path: torch.save([1, 2], path), 'holds no state dict'),
    'a number': ('x.pth', lambda path: torch.save(3, path), 'holds no state dict'),
    'a list as state dict': ('x.pth', lambda path: torch.save({'state_dict': [1]}, path), 'holds no state dict'),
    'an empty state dict': ('x.pth', lambda path: torch.save({'state_dict': {}}, path), 'holds no state dict'),
    'one that is no tensor': (
        'x.pth',
        lambda path: torch.save({'a': torch.ones(1), 'b': [1]}, path),
        'b is a list, and a state dict holds tensors only',
    ),
    'a number as name': ('x.pth', lambda path: torch.save({3: torch.ones(1)}, path), '3 is a Tensor'),
    'sparse': ('x.pth', state(torch.eye(3).to_sparse()), 'w is no dense tensor'),
    'compressed': ('x.pth', state(torch.eye(3).to_sparse_csr()), 'w is no dense tensor'),
    'quantised': ('x.pth', state(QUANTISED), 'w is no dense tensor'),
    'meta device': ('x.pth', state(torch.ones(2, device='meta')), 'w is no dense tensor'),
    'meta a list': (
        'x.pth',
        lambda path: torch.save({'state_dict': {'w': torch.ones(1)}, 'meta': [1]}, path),
        'its meta is a list',
    ),
    'docx': ('x.pth', foreign_zip, 'cannot be read'),
    'text': ('x.pth', lambda path: path.write_text('hello'), 'is not a complete PyTorch file'),
    'empty': ('x.pth', lambda path: path.write_bytes(b''), 'is not a complete PyTorch file'),
    'one byte': ('x.pth', lambda path: path.write_bytes(b'\x80'), 'cannot be read'),
    'half': ('x.pth', cut(0.5), 'is not a complete PyTorch file'),
    'nearly all': ('x.pth', cut(0.99), 'is not a complete PyTorch file'),
    'a bit turned over': ('x.pth', flipped, 'x/data/0 is damaged'),
    'half a safetensors': ('x.safetensors', half_safetensors, 'is not complete'),
    'a folder': ('x.pth', lambda path: path.mkdir(), 'is no file'),
    'a folder.safetensors': ('x.safetensors', lambda path: path.mkdir(), 'is no file'),
    'safetensors with broken meta': ('x.safetensors', bad_meta('{"a": '), 'cannot be read'),
    'safetensors with a list as meta': ('x.safetensors', bad_meta('[1]'), 'its meta is a list'),
    'safetensors with deep meta': ('x.safetensors', bad_meta('[' * 100_000), 'cannot be read'),
    'empty safetensors': ('x.safetensors', lambda path: path.write_bytes(b''), 'is not complete'),
    'npz of objects': ('x.npz', lambda path: np.savez(path, a=np.array([{}])), 'cannot be read'),
    'npz of text': ('x.npz', lambda path: np.savez(path, a=np.array(['x'])), 'cannot be read'),
    'npz that is none': ('x.npz', lambda path: path.write_bytes(b'\x80\x02.'), 'is not a complete'),
}


@pytest.mark.parametrize('name', BAD)
def test_every_bad_file_is_told_in_one_line(name, tmp_path):
    file, write, told = BAD[name]
    write(tmp_path / file)
    with pytest.raises(CheckpointError, match=told) as error:
        read_checkpoint(str(tmp_path / file))
    assert str(tmp_path / file) in str(error.value)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('value', [torch.ones(24, dtype=torch.int8), torch.ones(24, dtype=torch.complex64)], ids=str)
def test_weights_of_another_kind_are_refused(value, tmp_path):
    model = CYCLE.build()
    content = {**model.state_dict(), 'norm.weight': value}
    torch.save(content, tmp_path / 'x.pth')
    with pytest.raises(CheckpointError, match=r'1 tensors of another kind \(norm\.weight\)'):
        model.load_pretrained(str(tmp_path / 'x.pth'))


@pytest.mark.parametrize('name', ['x.pth', 'x.npz'])
def test_no_bit_turns_over_unseen(name, tmp_path):
    """Wherever a bit turns over, the file is refused or gives what was saved."""
    path, weights = tmp_path / name, {'w': torch.arange(16.0), 'v': torch.ones(3)}
    (torch.save if name == 'x.pth' else lambda state, file: np.savez(file, **state))(weights, path)
    whole, refused = path.read_bytes(), 0
    for place in range(0, len(whole), 3):
        path.write_bytes(whole)
        flip(path, place)
        try:
            read = read_checkpoint(str(path))['state_dict']
        except CheckpointError:
            refused += 1
        else:
            assert read.keys() == weights.keys() and all(torch.equal(read[key], weights[key]) for key in weights)
    assert refused > 10


def test_a_file_without_checksums_is_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({'w': torch.ones(3)}, tmp_path / 'x.pth')
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(read_checkpoint(str(tmp_path / 'x.pth'))['state_dict']['w'], torch.ones(3))
