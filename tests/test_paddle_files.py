"""Paddle's files of the released models: read as they are, without Paddle, and nothing but NumPy arrays in them."""

from __future__ import annotations

import os
import pickle
import re
import tracemalloc

import numpy as np
import pytest
import torch
from released.cyclemlp import cyclemlp
from released.mlpmixer import mlpmixer
from released.vip import permutator
from torch import nn

from families import FAMILIES
from mlp_dense.checkpoints import CheckpointError, read_checkpoint, rename

FAMILY = {family.type: family for family in FAMILIES}
RELEASED = {
    'CycleMLP': lambda family: cyclemlp(family.tiny, torch.float32),
    'VisionPermutator': lambda family: permutator(family.tiny, 64, torch.float32),
    'MLPMixer': lambda family: mlpmixer(family.tiny, 64, torch.float32),
}
# PyTorch's names -> those of Paddle's implementation, where they differ.
NAMES = {r'^stem\.proj\.': 'patch_embed.patch_embed.', r'^blocks\.': 'mixer_layers.'}
# Modules that Paddle's implementation makes with nn.Linear; the other weights are of Conv2D, CycleFC and LayerNorm.
LINEAR = re.compile(r'(mlp_[chw]|fc[12]|attn\.proj|^head)\.weight$')


def as_paddle(state):
    """The content of a file that Paddle saves of the same model."""
    arrays = {
        name: np.ascontiguousarray(value.T if LINEAR.search(name) else value)
        for name, value in rename(state, NAMES).items()
    }
    return arrays | {'StructuredToParameterName@@': {name: f'linear_{i}.w_0' for i, name in enumerate(arrays)}}


def write(content, path, protocol=4):
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
    return str(path)


@pytest.mark.parametrize('protocol', [2, 3, 4])
@pytest.mark.parametrize('name', RELEASED)
def test_a_file_gives_the_logits_of_the_torch_file(name, protocol, tmp_path):
    torch.manual_seed(0)
    family = FAMILY[name]
    state, run = RELEASED[name](family)
    square = [key for key, value in state.items() if LINEAR.search(key) and value.shape[0] == value.shape[1]]
    assert (square or name == 'MLPMixer') and all(not torch.equal(state[key], state[key].T) for key in square)
    image, logits = torch.randn(2, 3, 64, 64), []
    torch.save(dict(state), tmp_path / 'x.pth')
    for file in (str(tmp_path / 'x.pth'), write(as_paddle(state), tmp_path / 'x.pdparams', protocol)):
        model = family.build(init_cfg={'type': 'Pretrained', 'checkpoint': file}).eval()
        model.init_weights()
        with torch.no_grad():
            logits.append(model(image))
    assert torch.equal(*logits)
    torch.testing.assert_close(logits[1], run(image)[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('family', FAMILIES, ids=lambda family: family.type)
def test_weights_of_two_dimensions_are_those_of_linear_layers(family):
    """Which is how a file of Paddle is known to have them transposed."""
    for fork_feat in (False, True):
        model = family.build(fork_feat=fork_feat)
        linear = {f'{path}.weight' for path, module in model.named_modules() if isinstance(module, nn.Linear)}
        assert {name for name, value in model.state_dict().items() if value.dim() == 2} == linear


def test_names_of_statistics_are_pytorchs(tmp_path):
    content = {f'bn.{name}': np.full(2, i, 'f4') for i, name in enumerate(('weight', 'bias', '_mean', '_variance'))}
    state = read_checkpoint(write(content, tmp_path / 'x.pdparams'))['state_dict']
    norm = nn.BatchNorm1d(2)
    norm.load_state_dict({name.removeprefix('bn.'): value for name, value in state.items()}, strict=False)
    assert (norm.running_mean[0], norm.running_var[0], norm.bias[1]) == (2, 3, 1)


class Call:
    """Pickled as a call, which a careless reader carries out."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


W = np.arange(12, dtype='f4').reshape(3, 4)


def numbered(place):
    """A file that asks for a table of ``place`` values."""
    return b'\x80\x04}r' + place.to_bytes(4, 'little') + b'.'


BAD = {
    'another function': ({'w': Call(os.system, 'true')}, r'asks for posix\.system'),
    'a name of two lines': (b'\x80\x04\x8c\x03o\ns\x8c\x01x\x93.', 'asks for o s.x;'),
    'an object kept elsewhere': (b'\x80\x04K\x01Q.', 'persistent'),
    'a reader of NumPy': ({'w': Call(np.load, 'x')}, r'asks for numpy\.load'),
    'the tuples of a nested file': ({'model': {'w': Call(tuple, ('w', W))}}, r'asks for builtins\.tuple'),
    'a dict in a dict': ({'model': {'w': W}}, "its 'model' is a dict"),
    'a split array': ({'w': W, 'UnpackBigParamInfor@@': {'w': 1}}, "'UnpackBigParamInfor@@' is a dict"),
    'a number': ({'w': W, 'epoch': 3}, "its 'epoch' is a int"),
    'a name that is a number': ({3: W}, 'its 3 is a PickledArray'),
    'a list': ([W], 'it holds a list'),
    'an array alone': (W, 'it holds a PickledArray'),
    'objects': ({'w': np.array([{}, 'x'])}, r"numpy\.dtype\('O8'\)"),
    'fields': ({'w': np.zeros(2, [('a', 'f4')])}, r"numpy\.dtype\('V4'\)"),
    'text': ({'w': np.array(['x'])}, 'cannot be read'),
    'nothing': ({}, 'holds no state dict'),
    'protocol 5': (pickle.dumps({'w': W}, 5), r'asks for numpy\.\w+\.numeric\._frombuffer'),
    'cut short': (pickle.dumps({'w': W}, 4)[:-20], 'cannot be read'),
    'cut within an array': (pickle.dumps({'w': np.zeros(9999)}, 4)[:5000], 'cannot be read'),
    'no pickle': (b'hello', 'is not a complete Paddle file'),
    'a length beyond the file': (b'\x80\x04}\x8c\x01wB\xff\xff\xff\x7fxs.', 'cannot be read'),
    'a longer length beyond the file': (b'\x80\x04}\x8c\x01w\x8e' + b'\xff' * 6 + b'\0\0xs.', 'cannot be read'),
    'a length of zeros beyond the file': (b'\x80\x05}\x8c\x01w\x96' + b'\xff' * 5 + b'\0\0\0xs.', 'cannot be read'),
    'a table of values': (numbered(2**31), 'keeps place for 2147483648 values'),
}


@pytest.mark.parametrize('name', BAD)
def test_anything_else_is_told_in_one_line_and_takes_no_memory(name, tmp_path):
    content, message = BAD[name]
    path = write(content, tmp_path / 'x.pdparams')
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=message) as error:
            read_checkpoint(path)
        assert tracemalloc.get_traced_memory()[1] < 2e7
    finally:
        tracemalloc.stop()
    assert path in str(error.value) and '\n' not in str(error.value)


def test_many_arrays_of_the_same_bytes_are_refused(tmp_path):
    """A file of a megabyte does not become an array of a megabyte under each of many names."""
    one = np.zeros(1_000_000, 'u1')
    path = write({f'w{i}': one for i in range(1000)}, tmp_path / 'x.pdparams')
    assert os.path.getsize(path) < 1.1e6
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match='larger arrays of its'):
            read_checkpoint(path)
        assert tracemalloc.get_traced_memory()[1] < 1e7
    finally:
        tracemalloc.stop()
