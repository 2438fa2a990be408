"""Loading of released and own checkpoints: what is reported, and every way in which it must fail."""

import argparse
import logging

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import MODELS

from families import FAMILIES
from mlp_dense.checkpoints import CheckpointError, load_into, plan_load, read_checkpoint, unwrap, with_own_names
from mlp_dense.checkpoints.report import summary
from mlp_dense.errors import UserError

CYCLE = FAMILIES[0]
NORMS = {f'norm{i}.{part}' for i in (0, 2, 4, 6) for part in ('weight', 'bias')}
HEAD = {'norm.weight', 'norm.bias', 'head.weight', 'head.bias'}


@pytest.fixture
def classifier():
    return CYCLE.build().eval()


@pytest.fixture
def released(classifier):
    """As the authors' files: the offset buffers stand beside the weights."""
    state = {name: torch.randn_like(value) for name, value in classifier.state_dict().items()}
    for name, weight in classifier.state_dict().items():
        if '.sfc_' in name and name.endswith('weight'):
            pairs = torch.zeros(len(weight), 2)
            pairs[:, 1 if 'sfc_h' in name else 0] = torch.tensor([(0, 1, -1)[k % 3] for k in range(len(weight))])
            state[name.replace('weight', 'offset')] = pairs.reshape(1, -1, 1, 1)
    return state


def save(content, folder, name='weights.pth') -> str:
    torch.save(content, folder / name)
    return str(folder / name)


WRAPS = {
    'model': lambda state: {'model': state, 'epoch': 3, 'args': argparse.Namespace(lr=1.0)},
    'state_dict': lambda state: {'state_dict': state, 'meta': {}},
    'bare': lambda state: state,
    'module': lambda state: {'model': {f'module.{name}': value for name, value in state.items()}},
}


@pytest.mark.parametrize('wrap', WRAPS)
def test_every_file_layout_loads_into_the_dense_form(released, wrap, tmp_path):
    dense = CYCLE.build(fork_feat=True)
    report = dense.load_pretrained(save(WRAPS[wrap](released), tmp_path))
    offsets = {name for name in released if name.endswith('.offset')}
    assert set(report.dropped) == HEAD | offsets
    assert set(report.initial) == NORMS
    assert set(report.loaded) == set(released) - HEAD - offsets
    for name, value in dense.state_dict().items():
        expected = released[name] if name in released else torch.full_like(value, name.endswith('weight'))
        assert torch.equal(value, expected), name


def test_classifier_takes_the_whole_file(released, classifier, tmp_path):
    report = classifier.load_pretrained(save({'model': released}, tmp_path))
    assert report.initial == ()
    assert all(name.endswith('.offset') for name in report.dropped)
    assert torch.equal(classifier.head.weight, released['head.weight'])


def test_report_names_and_counts_everything_in_the_log(released, tmp_path):
    path = save(released, tmp_path)
    model = CYCLE.build(fork_feat=True, init_cfg={'type': 'Pretrained', 'checkpoint': path})
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = MMLogger.get_instance('report', log_level='INFO')
    logger.addHandler(handler)
    model.init_weights()
    line = next(message for message in messages if path in message and 'loaded' in message)
    own = len(model.state_dict())
    assert f'{own - 8} tensors loaded' in line
    assert '8 left at their initial values (norm0.weight, norm0.bias, ' in line
    assert '4 dropped (norm.weight, norm.bias, head.weight, head.bias)' in line
    offsets = sum(name.endswith('offset') for name in released)
    assert line.endswith(f'; {offsets} offset tensors left out, equal to the definition')
    assert '.offset' not in line


def test_long_lists_are_counted_by_pattern_and_many_patterns_by_part():
    many = [f'decode_head.convs.{i}.weight' for i in range(9)]
    assert summary(many[:8]) == ', '.join(many[:8])
    assert summary([*many, 'norm.bias']) == '9 decode_head.convs.*.weight, 1 norm.bias'
    assert summary([f'head{i}.{part}' for i in range(2) for part in 'abcdefghi']) == '18 head* tensors'


def test_released_layout_loads_below_a_prefix(released):
    detector = torch.nn.Module()
    detector.backbone = CYCLE.build()
    detector.load_state_dict({f'backbone.{name}': value for name, value in released.items()})
    assert torch.equal(detector.backbone.head.weight, released['head.weight'])


def test_prefix_takes_the_backbone_of_a_detector(tmp_path):
    dense = CYCLE.build(fork_feat=True)
    content = {f'backbone.{name}': torch.randn_like(value) for name, value in dense.state_dict().items()}
    path = save({'state_dict': {**content, 'neck.conv.weight': torch.zeros(1)}}, tmp_path)
    assert dense.load_pretrained(path, prefix='backbone').initial == ()
    assert torch.equal(dense.norm4.weight, content['backbone.norm4.weight'])
    with pytest.raises(CheckpointError, match=r"prefix='backbone\.'"):
        dense.load_pretrained(path)
    with pytest.raises(CheckpointError, match=r"no key that starts with 'encoder\.'"):
        dense.load_pretrained(path, prefix='encoder.')


def test_fewer_levels_drop_the_norms_and_stages_they_lack(released, tmp_path):
    model = CYCLE.build(fork_feat=True, out_indices=(1, 2))
    report = model.load_pretrained(save(released, tmp_path))
    assert set(report.initial) == {'norm2.weight', 'norm2.bias', 'norm4.weight', 'norm4.bias'}
    unbuilt = ('network.5', 'network.6')
    assert any(name.startswith(unbuilt) for name in report.dropped)
    assert all(name in HEAD or name.endswith('offset') or name.startswith(unbuilt) for name in report.dropped)


def test_own_dense_weights_load_into_fewer_levels(tmp_path):
    path = save(CYCLE.build(fork_feat=True).state_dict(), tmp_path)
    report = CYCLE.build(fork_feat=True, out_indices=(2, 3)).load_pretrained(path)
    assert set(report.dropped) == {'norm0.weight', 'norm0.bias', 'norm2.weight', 'norm2.bias'}


def rename(state, keep):
    """As a file with foreign names for all but the first ``keep`` tensors."""
    return {name if i < keep else f'other.{i}': value for i, (name, value) in enumerate(state.items())}


def without(state, *names):
    return {name: value for name, value in state.items() if name not in names}


def test_a_few_missing_tensors_are_reported_and_many_refused(released, tmp_path):
    some = without(released, 'patch_embed.proj.bias', 'network.0.0.norm1.bias')
    report = CYCLE.build(fork_feat=True).load_pretrained(save(some, tmp_path))
    assert set(report.initial) == NORMS | {'patch_embed.proj.bias', 'network.0.0.norm1.bias'}

    required = [name for name in released if name not in HEAD and not name.endswith('offset')]
    too_few = without(released, *required[: len(required) // 10 + 1])
    with pytest.raises(CheckpointError, match=rf'{len(required) // 10 + 1} tensors missing .* not a checkpoint of'):
        CYCLE.build(fork_feat=True).load_pretrained(save(too_few, tmp_path))


def test_failed_loading_changes_nothing(released, tmp_path):
    model = CYCLE.build(fork_feat=True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    released['network.6.1.mlp.fc2.weight'] = torch.zeros(3, 3)
    with pytest.raises(CheckpointError, match=r'1 tensors .*; network.6.1.mlp.fc2.weight is \(3, 3\) in the file'):
        model.load_pretrained(save(released, tmp_path))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'num_classes': 10}, r'head.weight is \(1000, 24\) in the file .*num_classes'),
        ({'arch': {**CYCLE.tiny, 'depths': (1, 1, 1, 2)}}, r'\d+ tensors unknown .*network\.2\.1.*; build the arch'),
        ({'arch': {**CYCLE.tiny, 'depths': (1, 2, 1, 4)}}, r'\d+ tensors missing .*; it is not a checkpoint'),
        ({'arch': {**CYCLE.tiny, 'mlp_ratios': (2, 3, 2, 2)}}, r'another shape .network.6.0.mlp.fc1.*; build the arch'),
    ],
)
def test_files_of_other_models_are_refused(released, options, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        CYCLE.build(**options).load_pretrained(save({'model': released}, tmp_path))


def test_another_size_of_the_family_is_refused(tmp_path):
    b1 = MODELS.build({'type': 'CycleMLP', 'arch': 'b1'})
    path = save({'model': MODELS.build({'type': 'CycleMLP', 'arch': 'b2'}).state_dict()}, tmp_path)
    with pytest.raises(CheckpointError, match=r'does not fit CycleMLP-b1: \d+ tensors unknown \(network\.2\.2'):
        b1.load_pretrained(path)


def test_broken_files_are_one_clear_line(tmp_path):
    model = CYCLE.build()
    broken = tmp_path / 'half.pth'
    broken.write_bytes(b'PK\x03\x04 cut off')
    for path, message in [
        (str(tmp_path / 'none.pth'), 'none.pth does not exist; put the file there'),
        (str(broken), 'half.pth is not a complete PyTorch file'),
        (save({'epoch': 3}, tmp_path), 'weights.pth holds no state dict'),
        (save([1, 2], tmp_path, 'list.pth'), 'list.pth holds no state dict'),
    ]:
        with pytest.raises(CheckpointError, match=message) as error:
            model.load_pretrained(path)
        assert '\n' not in str(error.value)
        assert isinstance(error.value, UserError) and isinstance(error.value, ValueError)


def test_unknown_keys_of_a_pretrained_init_cfg_are_refused():
    model = CYCLE.build(init_cfg={'type': 'Pretrained', 'checkpont': 'x.pth'})
    with pytest.raises(ValueError, match=r"takes 'checkpoint', 'prefix', 'resize_grid' and 'ema', got \['checkpont'\]"):
        model.init_weights()


def test_other_initialisers_still_work():
    model = CYCLE.build(init_cfg={'type': 'Constant', 'layer': 'Linear', 'val': 0.5})
    model.init_weights()
    assert (model.head.weight == 0.5).all()


def test_plan_and_unwrap_leave_their_arguments_alone(released):
    before, model = dict(released), CYCLE.build()
    plan_load(model, with_own_names(model, unwrap({'model': released}, 'x')['state_dict']), 'x')
    assert released == before


def test_what_stands_beside_the_weights_is_read_too(tmp_path):
    assert read_checkpoint(save({'a': torch.ones(1)}, tmp_path)) == {'state_dict': {'a': torch.ones(1)}}
    content = read_checkpoint(save({'model': {'a': torch.ones(1)}, 'epoch': 3, 'meta': {'iter': 7}}, tmp_path))
    assert content == {'state_dict': {'a': torch.ones(1)}, 'epoch': 3, 'meta': {'iter': 7}}


@pytest.mark.parametrize('weights_at', ['neck.1.', 'neck.'])
def test_a_detector_of_version_0_1_with_a_stride_pyramid_before_its_fpn_loads(weights_at, tmp_path):
    def detector():
        return torch.nn.ModuleDict({'backbone': CYCLE.build(fork_feat=True), 'neck': torch.nn.Linear(3, 2)})

    old, new = detector(), detector()
    state = {name.replace('neck.', weights_at): value for name, value in old.state_dict().items()}
    torch.save({'state_dict': state}, tmp_path / 'old.pth')
    report = load_into(new, str(tmp_path / 'old.pth'))
    assert not report.dropped and not report.initial
    assert torch.equal(new['neck'].weight, old['neck'].weight)
