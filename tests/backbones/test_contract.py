"""What every backbone promises, on a small arch of each family."""

import copy

import pytest
import torch

from families import FAMILIES
from mlp_dense.errors import UserError
from mlp_dense.ops import prefer

SIZES = [(64, 64), (32, 32), (33, 50), (96, 47), (35, 129)]
pytestmark = pytest.mark.parametrize('family', FAMILIES, ids=lambda family: family.type)


def randomised(model: torch.nn.Module) -> torch.nn.Module:
    """Weights large enough that every path matters, and no norm at its neutral value."""
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.mark.parametrize('size', SIZES, ids=str)
def test_levels_have_the_promised_channels_and_strides(family, size):
    model = family.build(fork_feat=True)
    levels = model(torch.randn(2, 3, *size))
    assert isinstance(levels, tuple)
    assert model.out_strides == family.strides
    for level, channels, stride in zip(levels, model.out_channels, model.out_strides, strict=True):
        assert level.shape[:2] == (2, channels)
        assert level.is_contiguous()
        for cells, pixels in zip(level.shape[2:], size, strict=True):
            assert pixels // stride <= cells <= -(-pixels // stride)


def test_logits(family):
    assert family.build(num_classes=7)(torch.randn(2, 3, 64, 96)).shape == (2, 7)


@pytest.mark.parametrize('out_indices', [(1, 2, 3), (0, 2), (1,)], ids=str)
def test_only_returned_levels_have_parameters_and_all_of_them_get_gradients(family, out_indices):
    model = randomised(family.build(fork_feat=True, out_indices=out_indices))
    levels = model(torch.randn(2, 3, 64, 64))
    assert [level.shape[1] for level in levels] == list(model.out_channels)
    full = family.build(fork_feat=True)(torch.randn(1, 3, 64, 64))
    assert [level.shape[2:] for level in levels] == [full[index].shape[2:] for index in out_indices]
    sum((level * torch.randn_like(level)).sum() for level in levels).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_out_indices_select_the_same_maps(family):
    model, part = family.build(fork_feat=True).eval(), family.build(fork_feat=True, out_indices=(1, 3)).eval()
    part.load_state_dict(model.state_dict(), strict=False)
    image = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(part(image), model(image)[1::2])


def test_activation_checkpointing_changes_nothing(family):
    plain = randomised(family.build(fork_feat=True, drop_path_rate=0.5)).train()
    saving = copy.deepcopy(plain)
    saving.with_cp = True
    image = torch.randn(4, 3, 64, 64)
    gradients = []
    for model in (plain, saving):
        torch.manual_seed(1)
        levels = model(image)
        sum(level.square().sum() for level in levels).backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in model.named_parameters()})
    torch.testing.assert_close(gradients[0], gradients[1])


def test_checkpointing_saves_activations(family):
    kept = []
    for with_cp in (False, True):
        model, sizes = family.build(fork_feat=True, with_cp=with_cp), []
        own = {parameter.data_ptr() for parameter in model.parameters()}

        def pack(tensor, sizes=sizes, own=own):
            if tensor.data_ptr() not in own:
                sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), prefer('reference'):
            model(torch.randn(1, 3, 64, 64))
        kept.append(sum(sizes))
    assert kept[1] < 0.5 * kept[0]


@pytest.mark.parametrize('frozen_stages', [0, 1, 3])
def test_frozen_stages_do_not_move(family, frozen_stages):
    model = family.build(fork_feat=True, frozen_stages=frozen_stages, drop_path_rate=0.1).train()
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0, weight_decay=0.1)
    sum((level * torch.randn_like(level)).sum() for level in model(torch.randn(8, 3, 64, 64))).backward()
    optimizer.step()
    last = model.stage_at[frozen_stages - 1] if frozen_stages else -1
    frozen = ('patch_embed.', *(f'network.{position}.' for position in range(last + 1)))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith(frozen), name
    stages = [model.network[position] for position in model.stage_at]
    assert [stage.training for stage in stages] == [index >= frozen_stages for index in range(4)]


def test_nothing_is_frozen_by_default(family):
    assert all(parameter.requires_grad for parameter in family.build(fork_feat=True).parameters())


def test_drop_path_of_every_block(family):
    model = family.build(drop_path_rate=0.3)
    rates = [
        getattr(block.drop_path, 'drop_prob', 0.0) for position in model.stage_at for block in model.network[position]
    ]
    growing = [0.3 * i / (len(rates) - 1) for i in range(len(rates))]
    assert rates == pytest.approx([0.3] * len(rates) if family.constant_drop_path else growing)


def test_drop_path_reaches_every_branch(family):
    model = family.build(drop_path_rate=0.999999)
    block = model.network[model.stage_at[-1]][-1]
    x = torch.randn(4, 64 // model.out_strides[-1], 64 // model.out_strides[-1], model.out_channels[-1])
    assert torch.equal(block.train()(x), x)
    assert not torch.equal(block.eval()(x), x)


def test_an_image_does_not_feel_its_batch_neighbours(family):
    model, images = randomised(family.build(fork_feat=True)).eval(), torch.randn(3, 3, 64, 64)
    for together, alone in zip(model(images), model(images[1:2]), strict=True):
        torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-4)


def test_empty_batch(family):
    assert [level.shape[0] for level in family.build(fork_feat=True)(torch.zeros(0, 3, 64, 64))] == [0] * 4


def test_channels_last_input_gives_the_same_result(family):
    model, images = family.build(fork_feat=True).eval(), torch.randn(2, 3, 64, 48)
    torch.testing.assert_close(model(images.contiguous(memory_format=torch.channels_last)), model(images))


def test_save_and_reload(family, tmp_path):
    model, image = randomised(family.build(fork_feat=True)).eval(), torch.randn(1, 3, 64, 64)
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'own.pth')
    again = family.build(fork_feat=True, init_cfg={'type': 'Pretrained', 'checkpoint': str(tmp_path / 'own.pth')})
    again.init_weights()
    torch.testing.assert_close(again.eval()(image), model(image), rtol=0, atol=0)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'arch': 'huge'}, "has no arch 'huge'; it has "),
        ({'arch': {'dims': (8, 8, 8, 8)}}, 'an arch dict has the keys'),
        ({'fork_feat': True, 'out_indices': (0, 4)}, r'from 0 to 3, got \(0, 4\)'),
        ({'fork_feat': True, 'out_indices': (2, 1)}, r'ascending .* got \(2, 1\)'),
        ({'fork_feat': True, 'out_indices': (-1,)}, r'from 0 to 3, got \(-1,\)'),
        ({'fork_feat': True, 'out_indices': ()}, r'got \(\)'),
        ({'frozen_stages': 5}, 'frozen_stages must be from -1 to 4, got 5'),
        ({'drop_path_rate': 1.0}, r'drop_path_rate must be in \[0, 1\), got 1.0'),
        ({'in_channels': 0}, 'in_channels must be a whole number from 1 up, got 0'),
        ({'in_channels': 2.5}, 'in_channels must be a whole number from 1 up, got 2.5'),
    ],
)
def test_bad_arguments_are_named(family, options, message):
    with pytest.raises(ValueError, match=message) as error:
        family.build(**options)
    assert isinstance(error.value, UserError) and '\n' not in str(error.value)


@pytest.mark.parametrize('shape', [(2, 1, 64, 64), (3, 64, 64), (2, 3, 64, 2)], ids=str)
def test_bad_images_are_named(family, shape):
    with pytest.raises(ValueError, match=r'takes images|smaller than one patch'):
        family.build()(torch.zeros(shape))


def test_gradients_of_layer_norms_in_bfloat16(family):
    """PyTorch's LayerNorm sums the gradients of its weights in bfloat16 where a map on a CPU is in it."""
    model = family.build(fork_feat=True)
    image, gradients = torch.randn(2, 3, 256, 256), []
    for low in (False, True):
        with torch.autocast('cpu', torch.bfloat16, enabled=low):
            levels = model(image)
        assert {level.dtype for level in levels} == {torch.float32}
        model.zero_grad()
        torch.manual_seed(1)
        torch.autograd.backward(levels, [torch.randn_like(level) + 0.1 for level in levels])
        norms = [module for module in model.modules() if isinstance(module, torch.nn.LayerNorm)]
        gradients.append([parameter.grad.clone() for norm in norms for parameter in norm.parameters()])
    for exact, low in zip(*gradients, strict=True):
        assert (low - exact).norm() < 0.05 * exact.norm()
