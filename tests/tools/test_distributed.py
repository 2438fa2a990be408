"""Two gloo processes on CPU, started by tools/dist_*.sh or as these do, do what one process does."""

from __future__ import annotations

import json
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from runs import ROOT, options, run_script, run_tool, still
from starting import run_processes

from mlp_dense.datasets.shapes import CLASSES, make_shapes
from mlp_dense.engine.machine import check_launcher
from mlp_dense.errors import UserError

pytestmark = pytest.mark.slow

TRAIN, VAL = 8, 5  # images; an odd number to validate
BATCH = 4  # over all processes

CONFIG = """
_base_ = '{root}/configs/{method}_cyclemlp_shapes.py'
custom_imports = dict(imports=['mlp_dense', 'distributed_probe'], allow_failed_imports=False)
custom_hooks = [dict(type='ProbeHook', out='{out}')]
val_evaluator = [{evaluator}, dict(type='CountMetric')]
test_evaluator = val_evaluator
"""
EVALUATOR = {
    'semfpn': "dict(type='IoUMetric', iou_metrics=['mIoU'])",
    'retinanet': "dict(type='CocoMetric', ann_file='{data}/annotations/instances_val2017.json', metric=['bbox'])",
    'classify': "dict(type='Accuracy')",
}

# The same for any number of processes: no statistics over the images of one process.
SEGMENTOR = {
    'train_cfg.max_iters': 4,
    'train_cfg.val_interval': 4,
    'model.decode_head.norm_cfg.type': 'GN',
    'model.decode_head.norm_cfg.num_groups': 8,
    'param_scheduler.0.end': 2,
}
DETECTOR = {
    'train_cfg.max_epochs': 2,
    'train_cfg.val_interval': 2,
    'model.test_cfg.score_thr': 0.0,
    'param_scheduler.0.end': 2,
}
CLASSIFIER = {'train_cfg.max_epochs': 1, 'train_cfg.val_interval': 1}
PICTURES = {'default_hooks.visualization.draw': True, 'default_hooks.visualization.interval': 1}
SETTINGS = {'semfpn': {**SEGMENTOR, **PICTURES}, 'retinanet': {**DETECTOR, **PICTURES}, 'classify': CLASSIFIER}


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    """Generated data in which every training image has the same boxes, each image other classes in them.

    RetinaNet divides its loss by the number of positive anchors in the process's own batch. Only with equal numbers is
    the mean over two processes the loss of one.
    """
    root = tmp_path_factory.mktemp('data')
    make_shapes(root, train=TRAIN, val=VAL, size=64, seed=0)
    path = root / 'annotations/instances_train2017.json'
    record = json.loads(path.read_text())
    kinds = [category['id'] for category in record['categories'] if category['name'] in CLASSES]
    boxes = [(6, 8, 24, 20), (34, 30, 26, 28)]
    record['annotations'] = [
        annotation(1 + 2 * i + j, image['id'], kinds[(3 * i + j) % len(kinds)], box)
        for i, image in enumerate(record['images'])
        for j, box in enumerate(boxes)
    ]
    path.write_text(json.dumps(record))
    return root


def annotation(number, image, category, box):
    x, y, w, h = box
    corners = [x, y, x + w, y, x + w, y + h, x, y + h]
    place = {'bbox': box, 'area': w * h, 'segmentation': [corners]}
    return {'id': number, 'image_id': image, 'category_id': category, 'iscrowd': 0, **place}


def write_config(folder: Path, method: str, data: Path) -> Path:
    path = folder / f'{method}.py'
    evaluator = EVALUATOR[method].format(data=data)
    text = CONFIG.format(root=ROOT, method=method, out=folder / 'found.json', evaluator=evaluator)
    if method == 'classify':
        text = text.replace("'mlp_dense', ", "'mlp_dense', 'mlp_dense.logits_head', ")
    path.write_text(text)
    return path


def arguments(method, folder, data, processes, **more):
    settings = {
        'data_root': data,
        'train_dataloader.batch_size': BATCH // processes,
        **still(method),
        **SETTINGS[method],
        **more,
    }
    return ['--work-dir', folder, *options(settings)]


def with_processes(script, *args):
    """``tools/<script>.sh ARGS`` on a free port."""
    return run_script('bash', f'tools/{script}.sh', *args, PORT=str(free_port()), PYTHON=sys.executable)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


@pytest.fixture(scope='module', params=['semfpn', 'retinanet'])
def runs(request, shapes, tmp_path_factory):
    """For one method: (folder, what was printed, what the probe found) with one process and with two."""
    method, both = request.param, []
    for processes in (1, 2):
        folder = tmp_path_factory.mktemp(f'{method}{processes}')
        config = write_config(folder, method, shapes)
        args = [*arguments(method, folder, shapes, processes), 'randomness.seed=0']
        if processes == 1:
            done = run_tool('train', config, *args)
        elif method == 'semfpn':
            done = with_processes('dist_train', config, 2, *args)
        else:  # without the script, which imports the libraries anew in each process
            done = run_processes(2, 'train', config, *args)
        assert done.code == 0, done.tail
        both.append((folder, done, json.loads((folder / 'found.json').read_text())))
    return method, *both


def test_losses_are_those_of_one_process_with_the_same_global_batch(runs):
    _, (_, _, one), (_, _, two) = runs
    assert (len(one['processes']), len(two['processes'])) == (1, 2)
    assert len(one['losses']) == 4
    assert two['losses'] == pytest.approx(one['losses'], rel=1e-4)
    assert len(set(one['losses'])) == 4
    assert two['backend'] == 'gloo'


def test_both_processes_end_with_the_same_weights(runs):
    _, _, (_, _, two) = runs
    (first, second) = two['processes']
    assert (first['rank'], second['rank']) == (0, 1)
    assert first['digest'] == second['digest']


def test_only_the_first_process_writes_files(runs):
    """But its part of the results, which mmengine hands over in a folder of the current one and removes."""
    _, (one_folder, _, _), (folder, _, two) = runs
    (first, second) = two['processes']
    kinds = {Path(path).suffix for path in first['written'] if path.startswith(str(folder))}
    assert {'.log', '.json', '.pth'} < kinds
    pictures, all_pictures = ({path.name for path in each.rglob('*.png')} for each in (folder, one_folder))
    assert len(pictures) == -(-VAL // 2) < VAL == len(all_pictures)
    elsewhere = {'.dist_test', '__pycache__'}
    paths = [Path(path) for path in second['written'] if not elsewhere & set(Path(path).parts)]
    assert [path for path in paths if not path.is_dir()] == []  # a file without a name in the folder was a try


def test_only_the_first_process_writes_to_the_screen(runs):
    _, _, (_, two, _) = runs
    lines = two.output.splitlines()
    begins = ('config  ', 'data  ', 'device  ', 'weights  ', 'validation after', 'trained ')
    assert [begin for begin in begins if sum(line.startswith(begin) for line in lines) != 1] == []
    assert ', 2 processes' in next(line for line in lines if line.startswith('device '))


def test_every_validation_image_counts_once(runs):
    _, (_, one, _), (_, two, _) = runs
    for processes, done in ((1, one), (2, two)):
        metrics = done.metrics('val')
        assert float(metrics['count/images']) == float(metrics['count/different']) == VAL
        assert float(metrics['count/processes']) == processes


@pytest.mark.parametrize('method', ['semfpn', 'retinanet', 'classify'])
def test_three_processes_of_slurm_count_every_validation_image_once(method, shapes, times, tmp_path):
    if method != 'semfpn' and not times:
        pytest.skip('two processes are tried above and in test_classifier_runs.py')
    config = write_config(tmp_path, method, shapes)
    args = ['train', config, '--launcher', 'slurm', *arguments(method, tmp_path, shapes, 3)]
    args += ['train_dataloader.batch_size=2', 'train_cfg.val_interval=1']
    args += ['train_cfg.max_iters=1' if method == 'semfpn' else 'train_cfg.max_epochs=1']
    place = {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(free_port()), 'SLURM_NODELIST': 'node', 'SLURM_NTASKS': '3'}
    with ThreadPoolExecutor(3) as pool:
        ranks = [{'SLURM_PROCID': str(rank), 'SLURM_LOCALID': str(rank)} for rank in range(3)]
        first, *others = pool.map(lambda rank: run_tool(*args, **place, **rank), ranks)
    assert [first.code, *(other.code for other in others)] == [0, 0, 0], first.tail
    images = VAL if method != 'classify' else sum(path.is_file() for path in (shapes / 'classes/val').rglob('*'))
    assert images % 3
    metrics = first.metrics('val')
    assert float(metrics['count/images']) == float(metrics['count/different']) == images
    assert float(metrics['count/processes']) == 3


@pytest.mark.parametrize('launcher', ['pytorch', 'slurm', 'mpi'])
def test_a_process_without_its_launcher_says_so(launcher, monkeypatch):
    for name in ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=f'--launcher {launcher}: .* is not set .*; start with '):
        check_launcher(launcher)


@pytest.mark.parametrize('runs', ['semfpn'], indirect=True)
def test_testing_with_two_processes_gives_the_metrics_of_one(runs, shapes, tmp_path):
    method, _, (folder, _, _) = runs
    config = write_config(tmp_path, method, shapes)
    args = arguments(method, tmp_path, shapes, 2)
    two = run_processes(2, 'test', config, folder / 'iter_4.pth', *args).metrics('test')
    one = run_tool('test', config, folder / 'iter_4.pth', *args).metrics('test')
    assert (two.pop('count/processes'), one.pop('count/processes')) == ('2', '1')
    assert two == one
    assert float(one['mIoU']) > 0


def test_sync_bn_falls_back_on_cpu(shapes, tmp_path):
    config = write_config(tmp_path, 'semfpn', shapes)
    settings = {'data_root': shapes, 'train_dataloader.batch_size': 2, 'train_cfg.max_iters': 1}
    done = run_processes(2, 'train', config, '--work-dir', tmp_path, '--no-validate', *options(settings))
    assert done.code == 0, done.tail
    assert 'SyncBN layers become BN layers' in done.output
    found = json.loads((tmp_path / 'found.json').read_text())
    assert found['layers'] == ['BatchNorm2d']


def test_an_error_of_the_user_is_told_as_in_one_process(shapes, tmp_path):
    config = write_config(tmp_path, 'semfpn', shapes)
    done = with_processes('dist_test', config, 'none.pth', 2, '--cfg-options', 'train_cfg.max_iter=2')
    assert done.code == 2
    assert 'Traceback' not in done.output
    assert 'did you mean train_cfg.max_iters?' in done.output.splitlines()[-1]
