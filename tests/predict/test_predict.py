"""mlp_dense.predict and its parts: inputs, whole images and tiles, results."""

from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from predicting import ALL_BOXES, level_of, make_checkpoint, make_pixels, noise
from pycocotools import mask as coco_mask
from runs import ROOT, run_script, small_config

from mlp_dense import predict
from mlp_dense.datasets.heads import ImageFileError
from mlp_dense.engine import precision
from mlp_dense.errors import UserError
from mlp_dense.predict import Predictor, Writer, find_sources

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """Makes, once each, the checkpoint of a small config with random weights."""
    folder = tmp_path_factory.mktemp('checkpoints')
    return lambda name: make_checkpoint(name, folder)


@pytest.fixture(scope='module')
def pixels(tmp_path_factory):
    """Config and checkpoint of the model of pixels."""
    return make_pixels(tmp_path_factory.mktemp('pixels'))


def test_from_python(pixels, tmp_path):
    images = [noise(size, seed) for seed, size in enumerate([(70, 50), (64, 40), (64, 50)])]
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f'{i}.png')
    samples = predict(*pixels, [tmp_path / '2.png', images[0][..., ::-1], f'{tmp_path}/[01].png'], batch_size=4)
    assert [sample.img_path for sample in samples] == [
        f'{tmp_path}/2.png',
        'array',
        f'{tmp_path}/0.png',
        f'{tmp_path}/1.png',
    ]
    for sample, i in zip(samples, (2, 0, 0, 1), strict=True):
        assert np.array_equal(sample.pred_sem_seg.data[0], level_of(images[i]))


def test_from_python_an_unreadable_file_is_raised_or_handed_over(pixels, tmp_path):
    (tmp_path / 'a.png').write_bytes(b'')
    Image.fromarray(noise((70, 50))).save(tmp_path / 'b.png')
    Image.fromarray(noise((70, 20))).save(tmp_path / 'c.png')
    with pytest.raises(ImageFileError, match=r'a\.png cannot be decoded'):
        predict(*pixels, tmp_path)
    errors = []
    samples = predict(*pixels, [tmp_path, tmp_path / 'none.png'], on_error=errors.append, out_dir=tmp_path / 'out')
    assert [sample.img_path for sample in samples] == [f'{tmp_path}/b.png']
    assert [path.name for path in (tmp_path / 'out/overlays').iterdir()] == ['b.png']
    messages = ' / '.join(map(str, errors))
    assert 'none.png does not exist' in messages and 'c.png is too small (70x20 pixels); 32 are needed' in messages
    assert len(errors) == 3


def test_what_a_folder_holds_is_predicted_or_told(pixels, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr('mlp_dense.predict.inputs.print_log', lambda text, **_: told.append(text))
    frames = [Image.fromarray(noise((70, 50), seed)) for seed in (0, 1)]
    frames[0].save(tmp_path / 'film.gif', save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / 'pages.tif', save_all=True, append_images=frames[1:])
    for name in ('a.jp2', 'b.pcx', 'c.HEIC'):
        frames[0].save(tmp_path / name, 'PCX' if name == 'c.HEIC' else None)
    (tmp_path / '.hidden.pcx').touch()
    errors = []
    samples = predict(*pixels, tmp_path, on_error=errors.append)
    assert [sample.img_path for sample in samples] == [f'{tmp_path}/{n}' for n in ('a.jp2', 'film.gif', 'pages.tif')]
    (error,) = map(str, errors)
    assert error.endswith('holds images of kinds not read (.HEIC, .pcx: 2), such as b.pcx; convert them to PNG or JPEG')
    assert told == [
        f'{tmp_path}/{name} holds 2 images, and the first is predicted; save each as a file of its own'
        for name in ('film.gif', 'pages.tif')
    ]


def test_wrong_arguments_are_told_before_the_model_is_loaded():
    image = noise((64, 48))
    for options, error, told in (
        (dict(images=None), TypeError, 'images must be paths, arrays or a list of them, not NoneType'),
        (dict(images=[image, 3]), TypeError, 'which holds int'),
        (dict(images=image[:0]), UserError, r'got \(0, 48|64, 3\)'),
        (dict(images=image[None]), UserError, 'an image array must be'),
        (dict(images=image.astype(object)), UserError, 'object'),
        (dict(tile='64x48'), TypeError, r"tile must be \(width, height\) in pixels, such as \(512, 512\), not '64x48'"),
        (dict(tile=64), TypeError, 'not 64'),
        (dict(tile=(64, 48.0)), TypeError, 'tile must be'),
        (dict(tile=(64, 48), overlap='4'), TypeError, 'overlap must be an integer'),
        (dict(batch_size=0), UserError, 'batch size 0 must be 1 or more'),
        (dict(batch_size=2.5), TypeError, 'batch size must be an integer'),
    ):
        with pytest.raises(error, match=told):
            predict('no config', 'no checkpoint', **{'images': image, **options})


def test_the_callable_module_can_be_pickled():
    assert pickle.loads(pickle.dumps(predict)) is predict


def test_an_array_that_the_pipeline_would_not_load_is_refused(pixels):
    for image in (noise((64, 48))[..., 0], noise((64, 48)).astype(float)):
        with pytest.raises(UserError, match=r'must be \(height, width, 3\), BGR, uint8, for this model'):
            predict(*pixels, image)


def test_greyscale(pixels, tmp_path):
    options = {'test_dataloader.dataset.pipeline.0.color_type': 'grayscale'}
    image = noise((70, 50))[..., 0]
    Image.fromarray(image).save(tmp_path / 'grey.png')
    predictor = Predictor(*pixels, options={**options, 'model.data_preprocessor.bgr_to_rgb': False})
    conv = predictor.model.decode_head.conv_seg
    conv.weight.data = conv.weight.data[:, :1]  # a model of one band
    conv.in_channels = 1
    writer = Writer(tmp_path, predictor.model.dataset_meta, predictor.task)
    for picture, sample in predictor.run(find_sources([tmp_path / 'grey.png', image])):
        assert np.array_equal(sample.pred_sem_seg.data[0], level_of(image[..., None]))
        writer.write(picture, sample)
    assert len(list((tmp_path / 'overlays').iterdir())) == 2


def test_what_inputs_stand_for(tmp_path):
    for name in ('b/x.png', 'b/deep/y.JPG', 'a/x.jpg', 'a/x.png', 'a/notes.txt', 'film.mp4'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    sources = find_sources(
        [tmp_path / 'b', str(tmp_path / 'a/*.[jp]*'), tmp_path / 'film.mp4', tmp_path / 'a/notes.txt']
    )
    assert [source.name for source in sources] == ['deep/y', 'x', 'x_2', 'x_3', 'film', 'notes']
    assert [source.path.removeprefix(f'{tmp_path}/') for source in sources] == [
        'b/deep/y.JPG', 'b/x.png', 'a/x.jpg', 'a/x.png', 'film.mp4', 'a/notes.txt',
    ]  # fmt: skip
    assert [source.is_video for source in sources] == [False] * 4 + [True, False]


@pytest.mark.parametrize('name', ['upernet_cyclemlp', 'upernet_vip', 'mask_rcnn_cyclemlp', 'retinanet_cyclemlp'])
def test_real_models_predict_by_tiles(name, checkpoint):
    method, image = name.rpartition('_')[0], noise((171, 130))
    options = dict([ALL_BOXES[method].split('=')]) if method in ALL_BOXES else {}
    options = {key: float(value) for key, value in options.items()}
    predictor = Predictor(ROOT / f'configs/{name}_shapes.py', checkpoint(name), options=options)
    parts = []
    ((_, sample),) = predictor.run(find_sources(image), 2, (96, 96), advance=parts.append)
    assert parts == [pytest.approx(1 / 6)] * 6  # 3 x 2 tiles
    assert sample.ori_shape == (130, 171)
    if predictor.task == 'detector':
        boxes = sample.pred_instances.bboxes
        assert len(boxes) > 0
        assert (boxes >= 0).all() and (boxes[:, [0, 2]] <= 171).all() and (boxes[:, [1, 3]] <= 130).all()
        assert boxes[:, 2].max() > 96  # not only the first tile
        assert (sample.pred_instances.scores.diff() <= 0).all()
        for mask in sample.pred_instances.get('masks', []):
            assert mask['size'] == [130, 171]
    else:
        assert sample.pred_sem_seg.data.shape == (1, 130, 171)


def test_masks_survive_encoding(checkpoint):
    options = {'model.test_cfg.rcnn.score_thr': 0.09}
    predictor = Predictor(small_config('mask_rcnn'), checkpoint('mask_rcnn_cyclemlp'), options=options)
    ((_, sample),) = predictor.run(find_sources(noise((97, 75))))
    instances = sample.pred_instances
    areas = [int(coco_mask.area(mask)) for mask in instances.masks]
    assert len(areas) == len(instances.bboxes) > 0 and max(areas) > 20


def test_importing_the_package_imports_none_of_it():
    code = (
        'import sys, mlp_dense\n'
        "assert not [name for name in sys.modules if name.startswith(('mmdet', 'mmseg', 'mlp_dense.engine'))]\n"
        'from mlp_dense import predict\n'
        "assert callable(predict) and not [name for name in sys.modules if name.startswith(('mmdet', 'mmseg'))]"
    )
    done = run_script(sys.executable, '-W', 'ignore', '-c', code)
    assert done.code == 0, done.tail
    assert done.output == ''


def test_names_and_colours_of_a_checkpoint_that_do_not_serve(tmp_path):
    config, path = make_pixels(tmp_path)
    content = torch.load(path, weights_only=False)
    names = tuple(Predictor(config, path).model.dataset_meta['classes'])
    for classes, palette, fault in (
        (names[:-1], None, 'classes, but'),
        (('a\nb', *names[1:]), None, 'control characters'),
        (names, [(0, 0, 1e9)] * len(names), 'palette is no such list'),
    ):
        content['meta'] = {'dataset_meta': {'classes': classes, 'palette': palette}}
        torch.save(content, tmp_path / 'x.pth')
        with pytest.raises(UserError, match=fault):
            Predictor(config, tmp_path / 'x.pth')
    content['meta']['dataset_meta']['palette'] = [(0, 0, 1)]
    torch.save(content, tmp_path / 'x.pth')
    assert Predictor(config, tmp_path / 'x.pth').model.dataset_meta['palette'] == 'random'


@pytest.mark.parametrize('name', ['semfpn_cyclemlp', 'mask_rcnn_cyclemlp', 'classify_cyclemlp'])
def test_bf16_predicts_nearly_what_float32_does(name, checkpoint, monkeypatch):
    monkeypatch.setattr(precision, '_has_bf16', lambda device: (True, ''))
    method, images = name.partition('_cyclemlp')[0], [noise((128, 96), seed) for seed in range(2)]
    options = {'model.test_cfg.rcnn.score_thr': 0.0} if method == 'mask_rcnn' else {}
    found = {}
    for amp in (None, 'bf16'):
        predictor, types = Predictor(small_config(method), checkpoint(name), 'cpu', options, amp), set()
        layer = next(module for module in predictor.model.backbone.modules() if isinstance(module, torch.nn.Conv2d))
        layer.register_forward_hook(lambda module, args, output, types=types: types.add(output.dtype))
        found[amp] = [sample for _, sample in predictor.run(find_sources(images))]
        assert types == {torch.bfloat16 if amp else torch.float32}
    for exact, low in zip(*found.values(), strict=True):
        if method == 'semfpn':
            assert (exact.pred_sem_seg.data == low.pred_sem_seg.data).float().mean() > 0.9
        elif method == 'classify':
            assert low.pred_score.dtype == torch.float32
            assert torch.allclose(low.pred_score, exact.pred_score, rtol=0.05)
        else:
            assert low.pred_instances.bboxes.dtype == low.pred_instances.scores.dtype == torch.float32
            assert len(low.pred_instances) == len(exact.pred_instances) == 100
            assert torch.allclose(low.pred_instances.scores, exact.pred_instances.scores, rtol=0.05)


def test_the_argument_for_mixed_precision(checkpoint, monkeypatch):
    monkeypatch.setattr(precision, '_has_bf16', lambda device: (False, 'this CPU has no bf16'))
    image, model = noise((64, 64)), (small_config('semfpn'), checkpoint('semfpn_cyclemlp'))
    with pytest.raises(UserError, match='amp=True is no precision'):
        predict(*model, image, amp=True)
    with pytest.raises(UserError, match='--amp fp16 needs a GPU'):
        predict(*model, image, device='cpu', amp='fp16')
    exact, same = (predict(*model, image, device='cpu', amp=amp)[0] for amp in (None, 'auto'))
    assert torch.equal(exact.pred_sem_seg.data, same.pred_sem_seg.data)
