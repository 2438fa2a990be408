"""Names of results, samples in the size of a picture, and hooks that draw and write what a test gives."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmdet.visualization import DetLocalVisualizer
from mmengine.config import Config
from mmengine.structures import InstanceData, PixelData
from mmseg.structures import SegDataSample
from mmseg.visualization import SegLocalVisualizer
from PIL import Image

from mlp_dense.engine import pictures
from mlp_dense.engine.hooks import LabelMapsHook, PicturesHook, SideBySideHook, replace_visualization
from mlp_dense.engine.pictures import (
    draw_sample,
    fit_sample,
    is_classified,
    open_sample,
    pick_nearest,
    place_of_name,
    result_names,
)
from mlp_dense.errors import UserError

META = {'classes': ('back', 'zebra', 'зебра'), 'palette': [(0, 0, 0), (250, 0, 0), (0, 250, 0)]}


class Images:
    """A data set as the hooks see it."""

    metainfo = META

    def __init__(self, folder, *paths):
        self.data_prefix, self.paths = {'img_path': str(folder)}, [str(path) for path in paths]

    def __len__(self):
        return len(self.paths)

    def get_data_info(self, index):
        return {'img_path': self.paths[index]}


def test_results_keep_sub_folders_and_have_different_names():
    inside = Images('d/val', 'd/val/a/1.jpg', 'd/val/b/1.jpg', 'd/val/1.png', 'd/val/1.jpg', 'd/x/../val/c/d.e.jpg')
    outside = Images('d/other', '/elsewhere/1.jpg', 'd/other/a/1.jpg', 'd/val/a/1.jpg')
    assert result_names([inside, outside]) == {
        'd/val/a/1.jpg': 'a/1',
        'd/val/b/1.jpg': 'b/1',
        'd/val/1.png': '1',
        'd/val/1.jpg': '1_2',
        'd/x/../val/c/d.e.jpg': 'c/d.e',
        '/elsewhere/1.jpg': '1_3',  # outside of the folder: no folder is left
        'd/other/a/1.jpg': 'a/1_2',
    }


def label_sample(path, labels, **meta):
    sample = SegDataSample(metainfo={'img_path': str(path), 'ori_shape': labels.shape, **meta})
    for name in ('gt_sem_seg', 'pred_sem_seg'):
        sample.set_data({name: PixelData(data=torch.from_numpy(labels)[None])})
    return sample


def test_samples_are_brought_to_the_size_of_the_picture():
    labels = np.arange(12).reshape(3, 4).repeat(2, 0).repeat(2, 1)
    sample = label_sample('a.png', labels)
    masks = np.zeros((1, 6, 8), np.uint8)
    masks[0, 2:4, 4:8] = 1
    for kind in (torch.from_numpy(masks), BitmapMasks(masks, 6, 8)):
        boxes = torch.tensor([[4.0, 2.0, 8.0, 4.0]])
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([0]), masks=kind)
        fitted = fit_sample(sample, (6, 8), (3, 4))
        assert torch.equal(fitted.gt_sem_seg.data[0], torch.arange(12).reshape(3, 4))
        assert fitted.gt_instances.bboxes.tolist() == [[2, 1, 4, 2]]
        small = fitted.gt_instances.masks
        small = small.masks if isinstance(small, BitmapMasks) else small.numpy()
        assert np.array_equal(small, masks[:, ::2, ::2])
    assert pick_nearest(torch.arange(3)[None, None], (1, 6)).tolist() == [[[0, 0, 1, 1, 2, 2]]]


@pytest.fixture
def tested(tmp_path, monkeypatch):
    """Two images of one name in two folders, the samples of their test, and the runner as the hooks see it."""
    monkeypatch.setattr('mlp_dense.datasets.images.LONG', 40)
    samples = []
    for folder, label in (('a', 1), ('b', 2)):
        path = tmp_path / 'images' / folder / '1.png'
        path.parent.mkdir(parents=True)
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(np.full((90, 50, 3), 100 * label, np.uint8)).save(path, exif=exif)
        samples.append(label_sample(path, np.full((50, 90), label), reduce_zero_label=folder == 'b'))
    images = Images(tmp_path / 'images', *(sample.img_path for sample in samples))
    visualizer = SegLocalVisualizer(alpha=1.0)
    visualizer.dataset_meta = META
    added = []
    visualizer.add_image = lambda name, picture, step: added.append((name, picture, step))
    loader = SimpleNamespace(dataset=images)
    runner = SimpleNamespace(test_dataloader=loader, val_dataloader=loader, visualizer=visualizer, iter=4)
    return runner, samples, added


def test_pictures_of_a_test_keep_sub_folders_and_are_reduced_and_upright(tested, tmp_path):
    runner, samples, _ = tested
    hook = SideBySideHook(str(tmp_path / 'out'))
    hook.before_test(runner)
    hook.after_test_iter(runner, 0, outputs=samples)
    drawn = sorted((tmp_path / 'out').rglob('*.png'))
    assert [str(path.relative_to(tmp_path / 'out')) for path in drawn] == ['a/1.png', 'b/1.png']
    for path, sample, color in zip(drawn, samples, META['palette'][1:], strict=True):
        picture = np.asarray(Image.open(path))
        assert picture.shape[0] == 22 and picture.shape[1] > 120  # 50 x 90 to 22 x 40, three times, and the legend
        assert (picture[:, :40] == 100 * int(sample.pred_sem_seg.data.max())).all()
        assert (picture[:, 40:120] == color).all()


def test_label_maps_keep_sub_folders_and_count_as_the_files_do(tested, tmp_path):
    runner, samples, _ = tested
    hook = LabelMapsHook(str(tmp_path / 'out'))
    hook.before_test(runner)
    hook.after_test_iter(runner, 0, outputs=samples)
    for name, label in (('a', 1), ('b', 3)):
        labels = np.asarray(Image.open(tmp_path / f'out/{name}/1.png'))
        assert labels.shape == (50, 90) and labels.dtype == np.uint8 and (labels == label).all()


def test_the_hook_in_place_of_the_librarys(tested):
    runner, samples, added = tested
    for kind in ('SegVisualizationHook', 'mmseg.SegVisualizationHook'):
        cfg = Config(dict(default_hooks=dict(visualization=dict(type=kind, draw=True, interval=3))))
        replace_visualization(cfg)
        assert cfg.default_hooks.visualization == dict(type='PicturesHook', draw=True, interval=3)
    shown = Config(dict(default_hooks=dict(visualization=dict(type='SegVisualizationHook', show=True))))
    replace_visualization(shown)
    assert shown.default_hooks.visualization.type == 'SegVisualizationHook'
    hook = PicturesHook(draw=True, interval=3)
    for index in range(4):
        hook.after_val_iter(runner, index, outputs=samples)
    assert [(name, step) for name, _, step in added] == [('val_1.png', 6)]
    assert added[0][1].shape[0] == 22
    added.clear()
    for index in range(4):
        hook.after_test_iter(runner, index, outputs=samples)
        PicturesHook().after_test_iter(runner, index, outputs=samples)
    assert [(name, step) for name, _, step in added] == [('test_1.png', 0), ('test_1.png', 3)]


class Arrays:
    """A data set of images in memory, as CIFAR-10 is one: each is red at its left."""

    metainfo = {'classes': ('cat', 'dog', 'зебра')}
    data_prefix = {'root': '/data/cifar10'}

    def __len__(self):
        return 2

    def get_data_info(self, index):
        image = np.zeros((32, 32, 3), np.uint8)
        image[:, :16, 0] = 255
        return {'img': image, 'gt_label': index, 'sample_idx': index}


def classified(dataset):
    from mmpretrain.structures import DataSample

    infos = map(dataset.get_data_info, range(len(dataset)))
    keys = ('img_path', 'sample_idx')
    samples = [
        DataSample(metainfo={key: info[key] for key in keys if key in info}).set_gt_label(info['gt_label'])
        for info in infos
    ]
    return [sample.set_pred_score(torch.tensor([0.2, 0.7, 0.1])).set_pred_label(1) for sample in samples]


def test_images_of_a_classifier_that_are_no_files(tmp_path):
    arrays = Arrays()
    assert result_names([arrays]) == {0: '00000', 1: '00001'}
    image, size = open_sample(arrays.get_data_info(1), arrays, lambda size: (64, 64))
    assert size == (32, 32) and image.shape == (64, 64, 3)
    assert image[5, 5].tolist() == [255, 0, 0] and image[5, 60].tolist() == [0, 0, 0]
    runner = SimpleNamespace(
        test_dataloader=SimpleNamespace(dataset=arrays), visualizer=SimpleNamespace(dataset_meta=arrays.metainfo)
    )
    samples = classified(arrays)
    assert all(map(is_classified, samples)) and not is_classified(label_sample('a.png', np.zeros((2, 2))))
    hook = SideBySideHook(str(tmp_path))
    hook.before_test(runner)
    hook.after_test_iter(runner, 0, outputs=samples)
    drawn = [np.asarray(Image.open(tmp_path / f'0000{index}.png')) for index in (0, 1)]
    for picture in drawn:
        assert picture.shape[0] == 384 and picture.shape[1] > 500  # enlarged by a whole number, and the names beside it
        assert picture[50, 50].tolist() == [255, 0, 0]
    assert not np.array_equal(*drawn)  # the truth is another
    runner.test_dataloader.dataset = SimpleNamespace(datasets=[arrays, Arrays()])
    hook.before_test(runner)
    with pytest.raises(UserError, match='has no path to name its file by'):
        hook.after_test_iter(runner, 0, outputs=samples)


def test_the_hook_in_place_of_mmpretrains_counts_images(tmp_path):
    old = dict(type='VisualizationHook', enable=True, interval=3)
    cfg = Config(dict(default_hooks=dict(visualization=old)))
    replace_visualization(cfg)
    assert cfg.default_hooks.visualization == dict(type='PicturesHook', draw=True, interval=3, by_image=True)
    kept = Config(dict(default_hooks=dict(visualization=dict(old, out_dir='pictures'))))
    replace_visualization(kept)
    assert kept.default_hooks.visualization.type == 'VisualizationHook'
    added = []
    visualizer = SimpleNamespace(
        dataset_meta=Arrays.metainfo, add_image=lambda name, picture, step: added.append((name, step))
    )
    loader = SimpleNamespace(dataset=Arrays())
    runner = SimpleNamespace(val_dataloader=loader, test_dataloader=loader, visualizer=visualizer, iter=70)
    hook = PicturesHook(draw=True, interval=3, by_image=True)
    for _ in range(2):
        hook.before_val_epoch(runner)
        for batch in range(2):
            hook.after_val_iter(runner, batch, outputs=classified(Arrays()))
    assert added == [('val_0', 70), ('val_1', 70)] * 2  # the first and the fourth of each validation


def detected(labels):
    boxes, masks = torch.tensor([[2.0, 3, 30, 20], [8, 1, 38, 28]]), torch.zeros(2, 30, 40, dtype=torch.bool)
    masks[0, 5:15, 4:20] = masks[1, 2:25, 10:33] = True
    instances = InstanceData(bboxes=boxes, labels=torch.tensor(labels), masks=masks, scores=torch.ones(2))
    return DetDataSample(gt_instances=instances, pred_instances=instances[1:])


def test_pictures_are_those_of_the_librarys_visualizer_whatever_was_drawn_before(tmp_path):
    image = np.random.default_rng(0).integers(256, size=(30, 40, 3), dtype=np.uint8)
    meta = {**META, 'classes': ('a', 'b', 'c')}
    maps = [label_sample('a.png', np.full((30, 40), label)) for label in (1, 2)]
    for kind, samples in ((SegLocalVisualizer, maps), (DetLocalVisualizer, [detected([0, 1]), detected([2, 2])])):
        visualizer = kind()
        visualizer.dataset_meta = meta
        for sample in samples:
            untouched = kind()
            untouched.dataset_meta = meta
            np.random.seed(0)  # mmdet's masks have colours at random
            untouched.add_datasample('', image, sample, out_file=str(tmp_path / 'expected.png'))
            np.random.seed(0)
            picture = draw_sample(visualizer, image, sample)
            assert np.array_equal(picture, Image.open(tmp_path / 'expected.png').convert('RGB'))


def test_a_name_stands_where_mmseg_puts_it():
    generator = np.random.default_rng(0)
    for share in (0.1, 0.5, 0.9):
        mask = (generator.random((13, 17)) < share).astype(np.uint8)
        assert np.array_equal(place_of_name(mask), SegLocalVisualizer._get_center_loc(None, mask))


def test_names_outside_ascii_stand_in_a_legend(monkeypatch):
    visualizer, texts = SegLocalVisualizer(alpha=1.0), []

    def draw_legend(entries, height, path):
        texts.append(entries)
        return np.zeros((height, 7, 3), np.uint8)

    monkeypatch.setattr(pictures, 'draw_legend', draw_legend)
    image, sample = np.zeros((30, 40, 3), np.uint8), label_sample('a.png', np.full((30, 40), 2.0, np.float32))
    visualizer.dataset_meta = META
    assert draw_sample(visualizer, image, sample).shape == (30, 87, 3)
    assert texts == [[('зебра', (0, 250, 0))]]
    assert visualizer.dataset_meta is META or visualizer.dataset_meta == META
    visualizer.dataset_meta = {**META, 'classes': ('a', 'b', 'c')}
    assert draw_sample(visualizer, image, sample).shape == (30, 80, 3)  # written by mmseg
