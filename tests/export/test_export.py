"""tools/export.py: its files give PyTorch's numbers, at fixed and at any size; its refusals."""

from __future__ import annotations

import importlib.util
import io
import json
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from runs import ROOT, run_tool, small_config

from families import FAMILIES
from mlp_dense.errors import UserError
from mlp_dense.export import program as export
from mlp_dense.export.exportable import load_exportable

spec = importlib.util.spec_from_file_location('export_tool', ROOT / 'tools/export.py')
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)

FAMILY = {family.type: family for family in FAMILIES}
# Every family, and every way to meet another grid along one axis and along both.
FIXED = [('CycleMLP', ''), ('VisionPermutator', 'resize'), ('VisionPermutator', 'overlap'), ('DynaMixer', 'window')]
FIXED += [('RaftMLP', 'published'), ('MLPMixer', 'window')]
DYNAMIC = [('CycleMLP', ''), ('VisionPermutator', 'window'), ('DynaMixer', 'overlap'), ('RaftMLP', 'resize')]
DYNAMIC += [('MLPMixer', 'overlap')]
# So coarse that an image may have whole windows where the sample that is traced has them, or has not.
COARSE = {'dims': (16,), 'depths': (1,), 'mlp_ratios': (3,), 'strides': (32,), 'segments': (8,)}
SIZES = [(1, 3, 64, 64), (3, 3, 128, 160), (1, 3, 70, 131), (1, 3, 192, 96)]  # the grid is that of 64 x 64
META = {'dataset_meta': {'classes': ('cat', 'dog')}}


@pytest.fixture(scope='module')
def exportable(tmp_path_factory):
    """A function: family and token_grid -> its first stage, read from a checkpoint."""

    def make(name, way, **options):
        family, folder = FAMILY[name], tmp_path_factory.mktemp(name)
        options |= {'released_dense': True} if way == 'published' else {'token_grid': way} if way else {}
        backbone = {'type': name, 'arch': family.tiny, **family.options, **options}
        backbone |= {'out_indices': (0,), 'fork_feat': True} if 'fork_feat' not in options else {}
        torch.manual_seed(0)
        torch.save(MODELS.build(dict(backbone)).state_dict(), folder / 'weights.pth')
        cfg = Config({'model': {'backbone': backbone, 'data_preprocessor': {'mean': [1, 2, 3], 'std': [4, 5, 6]}}})
        return load_exportable(cfg, str(folder / 'weights.pth'), backbone_only=True)

    return make


def check_standard(data):
    """Check that only operators of the ONNX standard occur, in a valid graph."""
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    assert [opset.domain for opset in model.opset_import] == ['']
    assert {node.domain for node in model.graph.node} == {''}
    assert not model.functions
    return model


def properties(data):
    return {entry.key: entry.value for entry in onnx.load_from_string(data).metadata_props}


@pytest.mark.parametrize(('name', 'way'), FIXED, ids=str)
def test_every_backbone_at_a_fixed_size(exportable, name, way):
    part = exportable(name, way)
    data = export.to_onnx(export.trace(part, (83, 139), dynamic=False), part, '83x139')
    assert max(export.verify(data, part, [(1, 3, 83, 139)])) < export.TOLERANCE
    model = check_standard(data)
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ['image', 'level0']


@pytest.mark.parametrize(('name', 'way'), DYNAMIC, ids=str)
def test_backbones_at_any_size(exportable, name, way):
    part = exportable(name, way, **({'arch': COARSE} if name == 'VisionPermutator' else {}))
    assert part.smallest == (64 if way == 'overlap' else 32)
    program = export.trace(part, (64, 64), dynamic=True)
    data = export.to_onnx(program, part, 'any')
    model = check_standard(data)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ['batch', 3, 'height', 'width']
    smaller = [] if way == 'overlap' else [(1, 3, 40, 33)]
    assert max(export.verify(data, part, SIZES + smaller)) < export.TOLERANCE
    if name == 'CycleMLP':
        assert max(export.verify(export.to_torch_export(program, part, 'any'), part, SIZES)) < export.TOLERANCE


def test_classifier_to_torch_export_with_metadata(exportable):
    part = exportable('MLPMixer', '', fork_feat=False, num_classes=7)
    data = export.to_torch_export(export.trace(part, (64, 64), dynamic=False), part, '64x64')
    assert max(export.verify(data, part, [(1, 3, 64, 64)])) < export.TOLERANCE
    extra = {'metadata.json': ''}
    program = torch.export.load(io.BytesIO(data), extra_files=extra)
    assert program.module()(torch.zeros(1, 3, 64, 64))[0].shape == (1, 7)
    notes = json.loads(extra['metadata.json'])
    assert notes['mean'] == [1, 2, 3] and notes['std'] == [4, 5, 6] and notes['channels'] == 'BGR'
    assert notes['outputs'] == ['logits'] and notes['sizes'] == '64x64'


def test_another_size_of_a_fixed_file_is_seen(exportable):
    part = exportable('CycleMLP', '')
    data = export.to_onnx(export.trace(part, (64, 64), dynamic=False), part, '64x64')
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument):
        list(export.verify(data, part, [(1, 3, 96, 64)]))
    with torch.no_grad():
        part.module.model.norm0.weight.mul_(1.001)
    assert max(export.verify(data, part, [(1, 3, 64, 64)])) > export.TOLERANCE


# Whole models.


@pytest.fixture(scope='module')
def model_of(tmp_path_factory):
    """A function: method -> config with fewer blocks, checkpoint of random weights, the model."""

    def make(method, changes='dict(backbone=dict(arch=dict(depths=[1, 1, 1, 1])))'):
        folder = tmp_path_factory.mktemp(method)
        config, checkpoint = folder / 'config.py', folder / 'weights.pth'
        config.write_text(f'_base_ = [{str(small_config(method))!r}]\nmodel = {changes}')
        cfg = Config.fromfile(config)
        init_default_scope(cfg.default_scope)
        torch.manual_seed(0)
        model = MODELS.build(cfg.model).eval()
        torch.save({'state_dict': model.state_dict(), 'meta': META}, checkpoint)
        return config, checkpoint, model

    return make


TWO_LEVELS = (
    'dict(backbone=dict(arch=dict(depths=[1, 1, 1, 1]), out_indices=(0, 1), out_strides=(4, 8)), '
    'decode_head=dict(in_channels=[32, 64], in_index=[0, 1]), auxiliary_head=dict(in_channels=64, in_index=1))'
)


def run(path, image):
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    names = [output.name for output in session.get_outputs()]
    values = session.run(names, {'image': image.numpy()})
    return dict(zip(names, map(torch.from_numpy, values), strict=True))


def close(output, expected):
    assert output.shape == expected.shape
    return (output - expected).norm() < 1e-4 * expected.norm()


def test_segmentor_gives_its_own_logits_at_any_size(model_of, tmp_path, capsys):
    config, checkpoint, model = model_of('upernet', TWO_LEVELS)
    out = tmp_path / 'net.onnx'
    args = [str(config), str(checkpoint), '--size', '160x96', '--dynamic', '--verify', '--out', str(out)]
    assert tool.main(args) == 0
    printed = capsys.readouterr().out
    for shape in ('1x3x96x160', '2x3x133x235'):
        assert f'net.onnx: input {shape}, relative error ' in printed
    image = torch.randn(2, 3, 128, 72)
    with torch.no_grad():
        samples = model.predict(image)
    assert close(run(out, image)['logits'], torch.stack([sample.seg_logits.data for sample in samples]))
    check_standard(out.read_bytes())
    notes = properties(out.read_bytes())
    assert json.loads(notes['classes']) == ['cat', 'dog']
    assert json.loads(notes['mean']) == pytest.approx(model.data_preprocessor.mean.flatten().tolist())
    assert notes['channels'] == 'RGB' and notes['sizes'] == 'any from 32x32'


def test_detector_gives_its_heads_raw_maps(model_of):
    config, checkpoint, model = model_of('retinanet')
    done = run_tool('export', config, checkpoint, '--size', '96x64', '--verify')
    assert done.code == 0, done.tail
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        classes, boxes = model._forward(image)
    outputs = run(checkpoint.with_suffix('.onnx'), image)
    assert list(outputs) == [f'class{i}' for i in range(len(classes))] + [f'box{i}' for i in range(len(boxes))]
    assert all(close(a, b) for a, b in zip(outputs.values(), (*classes, *boxes), strict=True))


def test_two_stage_detector_gives_neck_and_rpn_maps(model_of, tmp_path):
    config, checkpoint, model = model_of('mask_rcnn')
    out = tmp_path / 'net.onnx'
    assert tool.main([str(config), str(checkpoint), '--size', '64x96', '--out', str(out)]) == 0
    image = torch.randn(1, 3, 96, 64)
    with torch.no_grad():
        features = model.extract_feat(image)
        classes, boxes = model.rpn_head(features)
    outputs = run(out, image)
    levels = range(len(features))
    assert list(outputs) == [f'{kind}{level}' for kind in ('feature', 'class', 'box') for level in levels]
    assert all(close(a, b) for a, b in zip(outputs.values(), (*features, *classes, *boxes), strict=True))


SMALL = {'type': 'VisionPermutator', 'arch': COARSE, **FAMILY['VisionPermutator'].options, 'num_classes': 3}
DATA = {'type': 'CustomDataset', 'data_root': 'none', 'metainfo': {'classes': ['cat', 'dog', 'eel']}}


def classifier_config(load=({'type': 'LoadImageFromFile'},), **preprocessor):
    return Config(
        {
            'default_scope': 'mmpretrain',
            'custom_imports': {'imports': ['mlp_dense.logits_head']},
            'model': {
                'type': 'ImageClassifier',
                'data_preprocessor': {
                    'type': 'ClsDataPreprocessor',
                    'mean': [1, 2, 3],
                    'std': [4, 5, 6],
                    **preprocessor,
                },
                'backbone': SMALL,
                'head': {'type': 'LogitsHead'},
            },
            'test_dataloader': {'dataset': {**DATA, 'pipeline': [*load, {'type': 'PackInputs'}]}},
        }
    )


def test_classifier_gives_its_own_logits_at_any_batch_and_size(tmp_path):
    import mlp_dense.logits_head  # noqa: F401  which registers the head

    backbone = MODELS.build(dict(SMALL)).eval()
    torch.save(backbone.state_dict(), tmp_path / 'bare.pth')  # as released
    part = load_exportable(classifier_config(to_rgb=True), str(tmp_path / 'bare.pth'), backbone_only=False)
    (tmp_path / 'net.onnx').write_bytes(data := export.to_onnx(export.trace(part, (64, 64), dynamic=True), part, 'any'))
    check_standard(data)
    for shape in ((1, 3, 32, 32), (3, 3, 128, 75)):
        image = torch.randn(shape)
        with torch.no_grad():
            assert close(run(tmp_path / 'net.onnx', image)['logits'], backbone(image))
    notes = properties(data)
    assert json.loads(notes['classes']) == ['cat', 'dog', 'eel'] and json.loads(notes['outputs']) == ['logits']
    assert json.loads(notes['mean']) == [1, 2, 3] and notes['channels'] == 'RGB'


@pytest.mark.parametrize(
    ('load', 'turns', 'expected'),
    [(({'type': 'LoadImageFromFile'},), False, 'BGR'), ((), False, 'RGB'), ((), True, 'BGR')],
)
def test_the_channels_of_a_classifier_are_those_of_its_data(load, turns, expected, tmp_path):
    import mlp_dense.logits_head  # noqa: F401

    content = {'state_dict': MODELS.build(classifier_config().model.backbone).state_dict()}
    torch.save(content | {'meta': {'dataset_meta': {'classes': ('x', 'y', 'z')}}}, tmp_path / 'weights.pth')
    part = load_exportable(classifier_config(load, to_rgb=turns), str(tmp_path / 'weights.pth'), backbone_only=False)
    assert part.notes['channels'] == expected and part.notes['classes'] == ['x', 'y', 'z']


def test_every_fixed_size_gets_a_file_and_all_dynamic_ones_one():
    args = ['c.py', 'w.pth', '--out', 'd/net.onnx', '--size', '64x96', '96x64']
    several = {(64, 96): Path('d/net_64x96.onnx'), (96, 64): Path('d/net_96x64.onnx')}
    assert tool.targets(tool.parse_args(args)) == several
    assert tool.targets(tool.parse_args([*args, '--dynamic'])) == {(64, 96): Path('d/net.onnx')}


# What it refuses.


def test_an_inexact_file_is_not_written(model_of, tmp_path, monkeypatch, capsys):
    config, checkpoint, _ = model_of('semfpn')
    monkeypatch.setattr(export, 'TOLERANCE', 0.0)
    flags = ('--backbone', '--size', '64x64', '--verify', '--out', str(tmp_path / 'net.onnx'))
    assert tool.main([str(config), str(checkpoint), *flags]) == 2
    assert 'is above 0; nothing was written' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_model_that_cannot_take_any_size_ends_in_one_line(exportable, monkeypatch):
    part = exportable('CycleMLP', '')
    monkeypatch.setattr(part.module, 'forward', lambda image: (image.reshape(-1, 3, 64, 64),), raising=False)
    with pytest.raises(UserError, match=r'cannot be exported with dynamic sizes .* leave out --dynamic') as error:
        export.trace(part, (64, 64), dynamic=True)
    assert '\n' not in str(error.value)


def test_wrong_arguments_end_in_one_line(model_of, exportable, tmp_path, monkeypatch, capsys):
    config, checkpoint, _ = model_of('semfpn')
    (tmp_path / 'there.onnx').write_text('mine')
    torch.save({'w': torch.ones(1)}, tmp_path / 'other.pth')
    size = ('--size', '64x64')
    for args, message in [
        ((config, checkpoint, *size, '--out', tmp_path / 'there.onnx'), 'there.onnx exists'),
        ((config, checkpoint, *size, '--out', tmp_path / 'net.pt2'), 'a file of --format onnx ends with .onnx'),
        ((config, tmp_path / 'none.pth', *size), 'none.pth does not exist'),
        ((config, tmp_path / 'other.pth', *size), 'other.pth does not fit EncoderDecoder: '),
        ((config, tmp_path / 'other.pth', *size, '--backbone'), 'not a checkpoint of this model'),
        ((config, checkpoint, '--size', '64x2'), '--size 64x2: CycleMLP-own: an image of (2, 64) pixels'),
        ((config, checkpoint, '--size', '64x16', '--dynamic'), '--size 64x16: with --dynamic, sides from 32 pixels'),
    ]:
        assert tool.main([str(arg) for arg in args]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and message in lines[0], lines
    assert (tmp_path / 'there.onnx').read_text() == 'mine'
    monkeypatch.setattr(export, 'find_spec', lambda name: None)
    assert tool.main([str(config), str(checkpoint), *size]) == 2
    assert 'pip install onnx onnxscript' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        tool.parse_args([str(config), str(checkpoint), '--size', '512x'])
    assert "'512x' is no size; give WIDTHxHEIGHT" in capsys.readouterr().err
