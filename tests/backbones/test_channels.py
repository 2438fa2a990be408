"""Images of one channel and of many bands: what weights for colours give there, and what files are refused."""

import pytest
import timm
import torch

from families import FAMILIES
from mlp_dense import timm_models
from mlp_dense.checkpoints import CheckpointError, load_into

EACH = pytest.mark.parametrize('family', FAMILIES, ids=lambda family: family.type)
# Channels of a model -> images of three channels from its images, on which both give the same.
SAME = {1: lambda image: image.repeat(1, 3, 1, 1), 6: lambda image: image[:, :3]}
SIZE = (64, 48)


@pytest.fixture
def file(tmp_path):
    """A function that writes a state dict and returns the path."""

    def write(state, name='weights.pth') -> str:
        torch.save(dict(state), tmp_path / name)
        return str(tmp_path / name)

    return write


def state_of(family):
    """The released layout of the family's tiny arch, or its own names where they are the same."""
    if family.released:
        return family.released(dict(family.tiny), family.options['img_size'], torch.float32)[0]
    return family.build().state_dict()


@EACH
@pytest.mark.parametrize('channels', SAME)
@pytest.mark.parametrize('fork_feat', [False, True], ids=['classifier', 'dense'])
def test_weights_for_colours_give_the_same_on_what_repeats_them(family, channels, fork_feat, file):
    path = file(state_of(family))
    colours, model = (family.build(fork_feat=fork_feat, in_channels=count).eval() for count in (3, channels))
    assert colours.load_pretrained(path).adapted == ()
    report = model.load_pretrained(path)
    assert report.adapted == (model.stem_name,) and report.channels == (3, channels)
    assert f'{model.stem_name} adapted from 3 to {channels} channels' in str(report)
    image = torch.randn(2, channels, *SIZE)
    image = image if channels == 1 else image[:, :3].repeat(1, 2, 1, 1)
    with torch.no_grad():
        outputs, expected = model(image), colours(SAME[channels](image))
    for output, wanted in zip(outputs, expected, strict=True):
        assert (output - wanted).norm() <= 1e-5 * wanted.norm()


@EACH
def test_every_parameter_learns_from_four_bands_and_own_files_load_as_they_are(family, file):
    model = family.build(in_channels=4)
    model.load_pretrained(file(state_of(family)))
    if family.type == 'MLPMixer':
        torch.nn.init.normal_(model.head.weight)  # it starts at zero
    model(torch.randn(4, 4, *SIZE)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name
    own = file(model.state_dict(), 'own.pth')
    again = family.build(in_channels=4, init_cfg={'type': 'Pretrained', 'checkpoint': own})
    again.init_weights()
    assert torch.equal(again.get_parameter(model.stem_name), model.get_parameter(model.stem_name))
    for channels in (1, 3, 6):
        with pytest.raises(CheckpointError, match=r'made for images of 4 channels; set in_channels to 4$'):
            family.build(in_channels=channels).load_pretrained(own)


@EACH
def test_images_of_other_channels_are_named(family):
    with pytest.raises(
        ValueError, match=r'takes images \(B, 4, H, W\), as in_channels says; got shape \(1, 3, 64, 48\)'
    ):
        family.build(in_channels=4)(torch.zeros(1, 3, *SIZE))


class Detector(torch.nn.Module):
    """As much of a whole model as loading sees."""

    def __init__(self, **options):
        super().__init__()
        self.backbone = FAMILIES[0].build(fork_feat=True, **options)
        self.head = torch.nn.Linear(3, 2)


def test_a_whole_model_is_adapted_for_fine_tuning_only(file):
    path = file(Detector().state_dict())
    report = load_into(Detector(in_channels=4), path, exact=False)
    assert report.adapted == ('backbone.patch_embed.proj.weight',)
    with pytest.raises(CheckpointError, match=r'of 3 channels; set model\.backbone\.in_channels to 3$'):
        load_into(Detector(in_channels=4), path)


@pytest.mark.parametrize('name', ['cyclemlp_b1', 'raftmlp_s'])
@pytest.mark.parametrize('features_only', [False, True])
def test_pretrained_timm_models_of_one_channel(name, features_only, file, caplog):
    family, arch = timm_models.ARCHS[name]
    state = family(arch).state_dict()
    stem = family.paper.first_conv + '.weight'
    for source in ({'file': file(state)}, {'state_dict': state}):
        options = {'in_chans': 1, 'features_only': features_only, 'pretrained_cfg_overlay': source}
        model = timm.create_model(name, pretrained=True, **options)
        assert model.in_chans == model.in_channels == 1
        weight = model.get_parameter(stem)
        assert 3 * weight.shape[1] == state[stem].shape[1]
        torch.testing.assert_close(weight.flatten(1).sum(1), state[stem].flatten(1).sum(1), rtol=1e-4, atol=1e-4)
    assert not caplog.records
