"""A file that version 0.1 wrote, when each block of MLP-Mixer was a stage of its own, loads into today's four stages.

``mlpmixer_0_1.json`` holds the names and shapes of such a file, made by that version, and what it returned with weights
that a formula fills in.
"""

import json
from pathlib import Path

import pytest
import torch

import mlp_dense
from mlp_dense.checkpoints import CheckpointError

FILE = json.loads(Path(__file__).with_name('mlpmixer_0_1.json').read_text())
ARCH = {'dims': (8,) * 4, 'depths': (1, 2, 1, 2), 'mlp_ratios': (2,) * 4, 'strides': (16, 1, 1, 1)}


def state_0_1():
    return {
        name: torch.sin(torch.arange(torch.Size(shape).numel()) * 0.7 + i).view(shape) * 0.3
        for i, (name, shape) in enumerate(FILE['shapes'].items())
    }


def build(**options):
    return mlp_dense.MLPMixer(ARCH, fork_feat=True, img_size=48, **options).eval()


def assert_same_levels(model):
    image = torch.sin(torch.arange(3 * 40 * 56) * 0.01).view(1, 3, 40, 56)
    for level, expected in zip(model(image), FILE['levels'], strict=True):
        torch.testing.assert_close(level[0, 0].flatten(), torch.tensor(expected), rtol=1e-3, atol=2e-4)


def test_it_gives_what_version_0_1_gave(tmp_path):
    torch.save({'state_dict': state_0_1()}, tmp_path / 'old.pth')
    model = build(init_cfg={'type': 'Pretrained', 'checkpoint': str(tmp_path / 'old.pth')})
    model.init_weights()
    assert_same_levels(model)


def test_it_loads_into_a_model_around_the_backbone():
    whole = torch.nn.ModuleDict({'backbone': build()})
    whole.load_state_dict({f'backbone.{name}': value for name, value in state_0_1().items()})  # strictly
    assert_same_levels(whole['backbone'])


def test_what_is_saved_today_loads_unchanged():
    first, second = build(), build()
    first.load_state_dict(state_0_1())
    second.load_state_dict(first.state_dict())
    assert_same_levels(second)


def test_a_norm_within_a_stage_has_no_place_and_is_named():
    state = state_0_1()
    state['norm1.weight'] = state['norm0.weight']
    with pytest.raises(
        CheckpointError, match=r'norm1\. is the norm of a level within a stage.* after 1, 3, 4, 6 blocks'
    ):
        build().load_state_dict(state)
