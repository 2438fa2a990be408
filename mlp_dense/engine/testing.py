"""The options of tools/test.py, as changes of a config: predictions to files, pictures, test-time augmentation."""

from __future__ import annotations

from copy import deepcopy
from importlib import import_module
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from mlp_dense.engine.config import flatten
from mlp_dense.errors import UserError
from mlp_dense.folders import check_file_place, make_folder


def write_predictions(cfg: Config, out: str) -> None:
    """Write all predictions: a detector's to one JSON file in COCO's result format, a segmentor's to a folder of PNGs.

    Raises:
        UserError: ``out`` is not of that kind, or cannot be written to.
    """
    evaluators = _evaluators(cfg)
    if cfg.get('default_scope') == 'mmdet':
        if Path(out).suffix != '.json':
            raise UserError(f'--out {out}: predictions of a detector go to one file, FILE.json')
        coco = next((evaluator for evaluator in evaluators if evaluator.type == 'CocoMetric'), None)
        if coco is None:
            raise UserError(f'--out {out}: predictions are written by a CocoMetric; set test_evaluator to one')
        check_file_place(out, '--out')
        import_module('mlp_dense.engine.predictions')  # registers what follows; needs mmdet
        writing = ConfigDict(coco, type='CocoPredictions', out_file=out)
        cfg.test_evaluator = [writing if evaluator is coco else evaluator for evaluator in evaluators]
        return
    if Path(out).suffix in ('.json', '.pkl') or Path(out).is_file():
        raise UserError(f'--out {out}: predictions of a segmentor go to a folder, one PNG of labels per image')
    make_folder(out, '--out')
    cfg.custom_hooks = [*cfg.get('custom_hooks', []), dict(type='LabelMapsHook', out_dir=out)]


def write_pictures(cfg: Config, folder: str) -> None:
    """Write image, truth and prediction of every test image side by side to ``folder``.

    Raises:
        UserError: the folder cannot be made.
    """
    make_folder(folder, '--show-dir')
    cfg.custom_hooks = [*cfg.get('custom_hooks', []), dict(type='SideBySideHook', out_dir=folder)]


def augment(cfg: Config) -> None:
    """Test-time augmentation: the config's own, or for a detector without one, flipping.

    Raises:
        UserError: a segmentor's config has no ``tta_pipeline``, or a detector has masks, which mmdet cannot merge.
    """
    if cfg.get('default_scope') == 'mmdet':
        if any(key.endswith('.mask_head') for key, _ in flatten(cfg.model)):
            raise UserError('--tta: mmdet merges augmented boxes but not masks; test this model without it')
        _flip_detector(cfg)
    if 'tta_pipeline' not in cfg or 'tta_model' not in cfg:
        raise UserError('--tta: this config has no tta_pipeline and tta_model')
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    options: dict[str, Any] = dict(cfg.tta_model)
    if str(getattr(options['type'], '__name__', options['type'])).rpartition('.')[2] == 'SegTTAModel':
        import_module('mlp_dense.engine.tta')  # registers what follows; needs mmseg
        options['type'] = 'ProbabilityTTAModel'
    cfg.model = ConfigDict(**options, module=cfg.model)


def _flip_detector(cfg: Config) -> None:
    if 'tta_model' not in cfg:
        cfg.tta_model = dict(type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100))
    if 'tta_pipeline' not in cfg:
        keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction')
        flips = [dict(type='RandomFlip', prob=prob) for prob in (0.0, 1.0)]  # the truth is the first one's
        packing = [dict(type='PackDetInputs', meta_keys=keys)]
        before = deepcopy(cfg.test_dataloader.dataset.pipeline[:-1])
        cfg.tta_pipeline = [*before, dict(type='TestTimeAug', transforms=[flips, packing])]


def _evaluators(cfg: Config) -> list[ConfigDict]:
    return cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
