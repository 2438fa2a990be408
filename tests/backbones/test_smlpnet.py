"""What sMLPNet's batch norms promise beyond the contract, and files of its other archs."""

import copy

import pytest
import torch
from mmengine.model import convert_sync_batchnorm, revert_sync_batchnorm

from families import FAMILIES
from mlp_dense.checkpoints import CheckpointError

FAMILY = next(family for family in FAMILIES if family.type == 'SMLPNet')


def statistics(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


def train_once(model: torch.nn.Module) -> None:
    levels = model(torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1)))
    sum(level.square().sum() for level in levels).backward()


def test_recomputation_counts_no_batch_twice():
    plain = FAMILY.build(fork_feat=True).train()
    saving, before = copy.deepcopy(plain), statistics(plain)
    saving.with_cp = True
    for model in (plain, saving):
        train_once(model)
    assert not any(torch.equal(value, before[name]) for name, value in statistics(plain).items())
    torch.testing.assert_close(statistics(saving), statistics(plain), rtol=0, atol=0)


@pytest.mark.parametrize('with_cp', [False, True])
@pytest.mark.parametrize('options', [{'norm_eval': True}, {'frozen_stages': 4}], ids=str)
def test_statistics_stay_where_norms_are_fixed(options, with_cp):
    model = FAMILY.build(fork_feat=True, with_cp=with_cp, **options).train()
    before = statistics(model)
    train_once(model)
    torch.testing.assert_close(statistics(model), before, rtol=0, atol=0)


def test_a_released_file_brings_its_statistics(tmp_path):
    state, _ = FAMILY.released(dict(FAMILY.tiny), 64, torch.float32)
    torch.save({'model': dict(state), 'model_ema': {}, 'epoch': 299}, tmp_path / 'smlp.pth')
    model = FAMILY.build()
    report = model.load_pretrained(str(tmp_path / 'smlp.pth'))
    assert report.dropped == report.initial == ()
    own = model.state_dict()
    assert len(own) == len(state)
    assert torch.equal(own['network.2.1.norm1.bn.running_var'], state['token_mix.2.0.conv_merge.BN.running_var'])
    assert torch.equal(own['network.6.0.attn.norm.bn.running_mean'], state['token_mix.4.1.BN.running_mean'])
    assert torch.equal(own['norm.bn.num_batches_tracked'], torch.tensor(1234))


def test_synchronised_batch_norm_gives_the_same():
    state, _ = FAMILY.released(dict(FAMILY.tiny), 64, torch.float32)
    model, image = FAMILY.build(), torch.randn(2, 3, 64, 96)
    model.load_state_dict(state)
    expected = model.eval()(image)
    synchronised = convert_sync_batchnorm(copy.deepcopy(model))
    assert sum(isinstance(module, torch.nn.SyncBatchNorm) for module in synchronised.modules()) == 2 * 6 + 1
    assert list(synchronised.state_dict()) == list(model.state_dict())
    # mmengine's new layers are in training mode.
    torch.testing.assert_close(synchronised.eval()(image), expected)
    torch.testing.assert_close(revert_sync_batchnorm(synchronised).eval()(image), expected)


@pytest.mark.parametrize('depths', [(1, 2, 1, 1), (1, 2, 1, 3), (2, 2, 1, 2), (1, 1, 2, 2)], ids=str)
def test_files_of_other_depths_are_refused(depths, tmp_path):
    state, _ = FAMILY.released({**FAMILY.tiny, 'depths': depths}, 64, torch.float32)
    torch.save(dict(state), tmp_path / 'other.pth')
    with pytest.raises(CheckpointError, match='SMLPNet-own'):
        FAMILY.build().load_pretrained(str(tmp_path / 'other.pth'))
