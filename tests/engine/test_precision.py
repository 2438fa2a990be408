"""Mixed precision: who gets which type, and that all methods train and predict in bf16 nearly as in float32."""

from __future__ import annotations

import logging
from copy import deepcopy
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData, PixelData
from runs import ROOT
from tiny import ignore, tiny_config, train_tiny
from torch import nn

from mlp_dense.engine import precision, runner
from mlp_dense.engine.config import load_config
from mlp_dense.engine.machine import fit_to_cpu
from mlp_dense.engine.precision import Bf16OptimWrapper, choose_dtype, keep_exact, set_training
from mlp_dense.errors import UserError

METHODS = ('upernet', 'semfpn', 'retinanet', 'mask_rcnn', 'classify')
SIZE = (96, 128)
BF16 = {'cpu': torch.bfloat16}


@pytest.fixture(params=[True, False], ids=['bf16', 'no bf16'])
def has_bf16(request, monkeypatch):
    """A CPU and a GPU that multiply bf16 natively, and both without."""
    monkeypatch.setattr(torch.cpu, '_is_avx512_bf16_supported', lambda: request.param)
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation: request.param)
    monkeypatch.setattr(precision.platform, 'machine', lambda: 'x86_64')
    return request.param


@pytest.fixture
def bf16_cpu(monkeypatch):
    """A CPU that multiplies bf16, whatever this one is: PyTorch has the products on all."""
    monkeypatch.setattr(precision, '_has_bf16', lambda device: (device == 'cpu', 'no bf16'))


def test_the_type_of_a_device(has_bf16, caplog):
    bf16, fp16 = torch.bfloat16, torch.float16
    assert choose_dtype(None, 'cpu') is None
    assert choose_dtype('auto', 'cuda:1') is (bf16 if has_bf16 else fp16)
    assert choose_dtype('fp16', 'cuda') is fp16
    with pytest.raises(UserError, match=r'^--amp fp16 needs a GPU; '):
        choose_dtype('fp16', 'cpu')
    with pytest.raises(UserError, match="amp='fp8' is no precision"):
        choose_dtype('fp8', 'cpu')
    if has_bf16:
        assert [choose_dtype(amp, device) for amp in ('auto', 'bf16') for device in ('cpu', 'cuda')][:3] == [bf16] * 3
        return
    for device, fault in (('cpu', 'this CPU does not multiply bf16 natively'), ('cuda', 'this GPU does not')):
        with pytest.raises(UserError, match=f'^--amp bf16: {fault}'):
            choose_dtype('bf16', device)


def test_a_device_without_mixed_precision_is_told_in_one_line(has_bf16, monkeypatch):
    lines = []
    monkeypatch.setattr(precision, 'print_log', lambda text, logger, level: lines.append((level, text)))
    assert choose_dtype('auto', 'cpu') is (torch.bfloat16 if has_bf16 else None)
    assert choose_dtype('auto', 'mps') is None
    told = ['this CPU does not multiply bf16 natively'] * (not has_bf16) + ['it is for CPUs and CUDA, not for mps']
    assert [text.partition(' (')[0] for _, text in lines] == [f'No mixed precision: {fault}' for fault in told]
    assert {level for level, _ in lines} == {logging.WARNING}


def test_arm_is_asked_by_onednn(monkeypatch):
    monkeypatch.setattr(precision.platform, 'machine', lambda: 'aarch64')
    monkeypatch.setattr(torch.cpu, '_is_avx512_bf16_supported', lambda: False)
    for answer in (True, False):
        ops = SimpleNamespace(mkldnn=SimpleNamespace(_is_mkldnn_bf16_supported=lambda answer=answer: answer))
        monkeypatch.setattr(torch, 'ops', ops)
        assert precision._has_bf16('cpu')[0] is answer
    monkeypatch.setattr(torch.backends.mkldnn, 'is_available', lambda: False)
    assert precision._has_bf16('cpu')[0] is False


@pytest.mark.parametrize('device', ['cpu', 'cuda'])
@pytest.mark.parametrize('amp', [None, 'auto', 'fp16'])
@pytest.mark.parametrize('kind', ['OptimWrapper', 'AmpOptimWrapper', 'AmpOptimWrapper float16', 'Bf16OptimWrapper'])
def test_the_wrapper_of_a_training(kind, amp, device, has_bf16, monkeypatch):
    monkeypatch.setattr(precision, 'get_device', lambda: device)
    kind, _, dtype = kind.partition(' ')
    own = {'type': kind, **({'dtype': dtype, 'loss_scale': 512.0} if dtype else {})}
    cfg = Config({'optim_wrapper': own})
    if amp == 'fp16' and device == 'cpu':
        with pytest.raises(UserError, match='--amp fp16'):
            set_training(cfg, amp)
        return
    name = set_training(cfg, amp)
    left = dict(cfg.optim_wrapper)
    if amp is None and (device == 'cuda' or kind == 'OptimWrapper'):
        assert left == own
        assert name == {'OptimWrapper': '', 'AmpOptimWrapper': 'fp16', 'Bf16OptimWrapper': 'bf16'}[kind]
    elif has_bf16 and amp != 'fp16':
        assert (left, name) == ({'type': 'Bf16OptimWrapper'}, 'bf16')
    elif device == 'cuda':
        scale = own.get('loss_scale', 'dynamic')
        assert (left, name) == ({'type': 'AmpOptimWrapper', 'dtype': 'float16', 'loss_scale': scale}, 'fp16')
    else:
        assert (left, name) == ({'type': 'OptimWrapper'}, '')


def test_a_wrapper_with_its_own_precision_is_left():
    with pytest.raises(UserError, match=r'^--amp: optim_wrapper\.type is ApexOptimWrapper'):
        set_training(Config({'optim_wrapper': {'type': 'ApexOptimWrapper'}}), 'auto')


class Seen:
    """What a linear layer of the small training gave while it ran: the types, and whether the loss was asked for."""

    def __init__(self):
        self.types, self.tests, self.scored = [], [], []

    def __enter__(self):
        from tiny import Line, Scored

        forward, process = Line.forward, Scored.process

        def see(line, inputs, data_samples=None, mode='tensor'):
            (self.types if mode == 'loss' else self.tests).append(line.layer(torch.stack(inputs)).dtype)
            return forward(line, inputs, data_samples, mode)

        def score(metric, batch, samples):
            self.scored.append((torch.ones(2, 2) @ torch.ones(2, 2)).dtype)
            return process(metric, batch, samples)

        self.patches = patch.object(Line, 'forward', see), patch.object(Scored, 'process', score)
        for change in self.patches:
            change.start()
        return self

    def __exit__(self, *_):
        for change in self.patches:
            change.stop()


@pytest.mark.parametrize('more', [{}, {'accumulative_counts': 2, 'clip_grad': {'max_norm': 1.0}}], ids=str)
def test_a_training_goes_on_in_either_precision(more, bf16_cpu, tmp_path):
    def wrapper(kind):
        return {'optim_wrapper': {'type': kind, 'optimizer': {'type': 'AdamW', 'lr': 0.1}, **more}}

    hooks = {'custom_hooks': [{'type': 'EMAHook'}]}
    with Seen() as seen:
        train_tiny(tmp_path, length=2, more={**wrapper('AmpOptimWrapper'), **hooks})
        assert set(seen.types) == {torch.bfloat16}
        assert set(seen.tests) == {torch.float32}  # a validation is what a test without --amp measures
        saved = torch.load(tmp_path / 'iter_2.pth', weights_only=False)
        assert 'loss_scaler' not in saved['optimizer']
        assert {value.dtype for value in saved['state_dict'].values()} == {torch.float32, torch.int64}
        seen.types.clear()
        train_tiny(tmp_path, True, length=4, more={**wrapper('OptimWrapper'), **hooks})
        assert set(seen.types) == {torch.float32}
        saved = torch.load(tmp_path / 'iter_4.pth', weights_only=False)
        saved['optimizer']['loss_scaler'] = {'scale': 65536.0, 'growth_factor': 2.0, '_growth_tracker': 3}  # as of fp16
        torch.save(saved, tmp_path / 'iter_4.pth')
        seen.types.clear()
        train_tiny(tmp_path, True, length=6, more={**wrapper('Bf16OptimWrapper'), **hooks})
        assert set(seen.types) == {torch.bfloat16}
    assert 'iter_6.pth' in {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize(('amp', 'dtype'), [(None, torch.float32), ('bf16', torch.bfloat16)])
def test_a_test_is_in_the_precision_asked_for_and_its_metrics_in_float32(amp, dtype, bf16_cpu, tmp_path):
    train_tiny(tmp_path, length=1)
    cfg = tiny_config(tmp_path)
    cfg.update({f'test_{key}': deepcopy(cfg[f'val_{key}']) for key in ('dataloader', 'evaluator', 'cfg')})
    with Seen() as seen, patch('mmengine.runner.runner.collect_env', dict), patch.object(runner, 'check_data', ignore):
        metrics = runner.test(cfg, str(tmp_path / 'iter_1.pth'), amp, full_log=True)
    assert metrics == {'test/score': 1.0}
    assert set(seen.tests) == {dtype}
    assert set(seen.scored) == {torch.float32}
    assert not torch.is_autocast_enabled('cpu')


@pytest.mark.parametrize('width', [1, 2, 3])
def test_narrow_maps_of_strided_convolutions_are_right(width):
    """As in the last stage of an image 32 pixels wide, and in the last level of RetinaNet's of 128."""
    model, x = nn.Sequential(nn.Conv2d(256, 256, 3, 2, 1)), torch.randn(2, 256, 8, width, requires_grad=True)
    inputs = [x, *model.parameters()]
    exact = model(x)
    gradients = torch.autograd.grad(exact.square().sum(), inputs)
    keep_exact(model)
    for _ in range(3):
        [torch.full((2**power,), float('nan')) for power in range(4, 19)]  # what memory may hold
        with torch.autocast('cpu', torch.bfloat16):
            result = model(x)
        found = torch.autograd.grad(result.float().square().sum(), inputs)
        for value, expected in zip((result, *found), (exact, *gradients), strict=True):
            assert (value - expected).norm() < 0.02 * expected.norm()
    assert torch.equal(model(x), exact)


def test_layer_norms_of_any_model_sum_the_gradients_of_their_weights_in_float32():
    model, x = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8)), torch.randn(2**14, 8)
    keep_exact(model)
    gradients = []
    for low in (False, True):
        with torch.autocast('cpu', torch.bfloat16, enabled=low):
            result = model(x)
        torch.manual_seed(1)
        gradients.append(torch.autograd.grad(result, list(model[1].parameters()), torch.randn_like(result) + 0.1))
    for exact, value in zip(*gradients, strict=True):
        assert (value - exact).norm() < 0.02 * exact.norm()


def samples_of(method):
    """Truth for two images."""
    if method in ('upernet', 'semfpn'):
        from mmseg.structures import SegDataSample

        labels = torch.randint(0, 11, (2, 1, *SIZE))
        meta = {'img_shape': SIZE, 'ori_shape': SIZE, 'padding_size': (0,) * 4}
        return [SegDataSample(gt_sem_seg=PixelData(data=one), metainfo=meta) for one in labels]
    if method == 'classify':
        from mmpretrain.structures import DataSample

        return [DataSample().set_gt_label(label) for label in (1, 7)]
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    meta = {'img_shape': SIZE, 'pad_shape': SIZE, 'batch_input_shape': SIZE, 'ori_shape': SIZE, 'scale_factor': (1, 1)}
    boxes, masks = torch.tensor([[10.0, 10, 50, 40], [30, 20, 90, 60]]), np.zeros((2, *SIZE), np.uint8)
    masks[0, 10:40, 10:50] = masks[1, 20:60, 30:90] = 1
    objects = InstanceData(bboxes=boxes, labels=torch.tensor([1, 7]), masks=BitmapMasks(masks, *SIZE))
    return [DetDataSample(gt_instances=objects, metainfo=meta) for _ in range(2)]


@pytest.mark.parametrize('method', METHODS)
def test_every_method_trains_and_predicts_in_bf16_nearly_as_in_float32(method, bf16_cpu):
    cfg = load_config(str(ROOT / f'configs/{method}_cyclemlp_shapes.py'))
    cfg.launcher = 'none'
    fit_to_cpu(cfg)
    set_training(cfg, 'bf16')
    init_default_scope(cfg.default_scope)
    model = MODELS.build({**cfg.model, 'train_cfg': cfg.model.get('train_cfg')}).train()
    keep_exact(model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert isinstance(wrapper, Bf16OptimWrapper)
    types, losses = [], {}
    for module in model.backbone.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, args, output: types.append(output.dtype))
    images, samples = torch.randn(2, 3, *SIZE), samples_of(method)
    for low in (False, True):
        types.clear()
        torch.manual_seed(1)
        with torch.random.fork_rng(), wrapper.optim_context(model) if low else torch.enable_grad():
            losses[low] = model.parse_losses(model.loss(images, deepcopy(samples)))[0]
    assert set(types) == {torch.bfloat16}
    assert losses[True].dtype == torch.float32
    assert float(losses[True]) == pytest.approx(float(losses[False]), rel=0.1)
    wrapper.update_params(losses[True])
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    types.clear()
    model.eval()
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        (first, _) = model.predict(images, deepcopy(samples))
    assert set(types) == {torch.bfloat16}
    if method in ('retinanet', 'mask_rcnn'):
        assert {first.pred_instances.bboxes.dtype, first.pred_instances.scores.dtype} == {torch.float32}
    else:
        assert (first.pred_score if method == 'classify' else first.seg_logits.data).dtype == torch.float32
