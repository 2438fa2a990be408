"""The options of tools/test.py, as changes of a config: predictions to files, pictures, test-time augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from mlp_dense.datasets.corruptions import corruption_names
from mlp_dense.engine.config import flatten
from mlp_dense.engine.metainfo import datasets
from mlp_dense.errors import UserError
from mlp_dense.folders import check_file_place, make_folder


def write_predictions(cfg: Config, out: str) -> None:
    """Write all predictions: a detector's and a classifier's to one JSON file, a segmentor's to a folder of PNGs.

    A detector's are in COCO's result format.

    Raises:
        UserError: ``out`` is not of that kind, or cannot be written to.
    """
    evaluators, scope = _evaluators(cfg), cfg.get('default_scope')
    if scope in ('mmdet', 'mmpretrain') and Path(out).suffix != '.json':
        kind = 'detector' if scope == 'mmdet' else 'classifier'
        raise UserError(f'--out {out}: predictions of a {kind} go to one file, FILE.json')
    if scope == 'mmpretrain':
        check_file_place(out, '--out')
        best_of = import_module('mlp_dense.engine.class_predictions').best_of  # registers what follows
        writing = ConfigDict(type='mmengine.ClassPredictions', out_file=out, best=best_of(evaluators))
        cfg.test_evaluator = [*evaluators, writing]
        return
    if scope == 'mmdet':
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
    """Test-time augmentation: the config's own, or for a detector or classifier without one, flipping.

    Raises:
        UserError: a segmentor's config has no ``tta_pipeline``, or a detector has masks, which mmdet cannot merge.
    """
    if cfg.get('default_scope') == 'mmdet':
        if any(key.endswith('.mask_head') for key, _ in flatten(cfg.model)):
            raise UserError('--tta: mmdet merges augmented boxes but not masks; test this model without it')
        _flip_detector(cfg)
    if cfg.get('default_scope') == 'mmpretrain':
        _flip_classifier(cfg)
    if 'tta_pipeline' not in cfg or 'tta_model' not in cfg:
        raise UserError('--tta: this config has no tta_pipeline and tta_model')
    for _, dataset in datasets(cfg, 'test'):
        dataset.pipeline = cfg.tta_pipeline
    options: dict[str, Any] = dict(cfg.tta_model)
    if str(getattr(options['type'], '__name__', options['type'])).rpartition('.')[2] == 'SegTTAModel':
        import_module('mlp_dense.engine.tta')  # registers what follows; needs mmseg
        options['type'] = 'ProbabilityTTAModel'
    if 'data_preprocessor' in cfg.model:  # in its place mmengine would put the config's, which may have other means
        options.setdefault('data_preprocessor', cfg.model.data_preprocessor)
    cfg.model = ConfigDict(**options, module=cfg.model)


def corrupt(cfg: Config, names: Sequence[str], severities: Sequence[int]) -> None:
    """Test under corruptions too: of each of these names at each of these severities.

    Args:
        cfg: the config; ``randomness.seed`` seeds the corruptions too, with 0 where it is not set.
        names: see :func:`mlp_dense.datasets.corruptions.corruption_names`.
        severities: from 1 to 5.

    Raises:
        UserError: a name is unknown, a package is missing, or the config has a test loop of its own.
    """
    corruptions = corruption_names(names)
    loop = cfg.get('test_cfg') or {}
    if str(loop.get('type', 'TestLoop')).rpartition('.')[2] != 'TestLoop':
        raise UserError(f'--corruptions needs test_cfg.type=TestLoop; this config has {loop["type"]}')
    import_module('mlp_dense.engine.robustness')  # registers what follows
    cfg.test_cfg = ConfigDict(
        loop,
        type='CorruptionLoop',
        corruptions=corruptions,
        severities=sorted(set(severities)),
        seed=(cfg.get('randomness') or {}).get('seed') or 0,
        is_classifier=cfg.get('default_scope') == 'mmpretrain',
    )
    if cfg.get('test_dataloader'):
        cfg.test_dataloader.persistent_workers = False  # workers would keep the corruption that they began with


def _flip_detector(cfg: Config) -> None:
    if 'tta_model' not in cfg:
        cfg.tta_model = dict(type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100))
    if 'tta_pipeline' not in cfg:
        keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction')
        flips = [dict(type='RandomFlip', prob=prob) for prob in (0.0, 1.0)]  # the truth is the first one's
        packing = [dict(type='PackDetInputs', meta_keys=keys)]
        before = _steps(cfg)[:-1]
        cfg.tta_pipeline = [*before, dict(type='TestTimeAug', transforms=[flips, packing])]


def _flip_classifier(cfg: Config) -> None:
    cfg.setdefault('tta_model', dict(type='AverageClsScoreTTA'))
    if 'tta_pipeline' not in cfg:
        steps = _steps(cfg)
        pack = next(
            (i for i, step in enumerate(steps) if str(step.type).rpartition('.')[2].startswith('Pack')), len(steps)
        )
        flips = [dict(type='RandomFlip', prob=prob) for prob in (0.0, 1.0)]
        branches = [flips, *([step] for step in steps[pack:])]
        cfg.tta_pipeline = [*steps[:pack], dict(type='TestTimeAug', transforms=branches)]


def _steps(cfg: Config) -> list[Any]:
    """Return a copy of the test pipeline, which is that of the first dataset."""
    return next((deepcopy(list(dataset.pipeline)) for _, dataset in datasets(cfg, 'test')), [])


def _evaluators(cfg: Config) -> list[ConfigDict]:
    return cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
