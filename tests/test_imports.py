"""The core stands alone: importing it pulls in neither detection nor segmentation, prints nothing, needs no GPU."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / 'mlp_dense'
# Rooms from the lowest up; those of one line do not know each other.
ROOMS = [
    ['stopping'],
    ['errors'],
    ['ops', 'pickled', 'folders', 'processes'],
    ['safe_files'],
    ['checkpoints'],
    ['layers'],
    ['backbones', 'necks'],
    ['timm_classes'],
    ['timm_classifier', 'timm_features'],
    ['timm_models'],
    ['preprocessor', 'layer_decay'],
    ['datasets'],
    ['engine'],
    ['predict', 'report', 'export', 'stats'],
]
CORE = {room for rooms in ROOMS[:11] for room in rooms}

PROBE = """
import os, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('mmdet', 'mmseg', 'mmcv'):
            raise ImportError(f'{name} is not installed')

sys.meta_path.insert(0, Blocked())
before = {name: value for name, value in os.environ.items() if name.startswith(('OMP', 'GOMP', 'KMP', 'MKL'))}
import mlp_dense
import torch
from mmengine.registry import MODELS
model = MODELS.build(dict(type='CycleMLP', arch='b1', fork_feat=True))
assert len(model(torch.zeros(1, 3, 32, 32))) == 4
assert not torch.cuda.is_initialized()
after = {name: value for name, value in os.environ.items() if name.startswith(('OMP', 'GOMP', 'KMP', 'MKL'))}
assert after == before  # the threads of whoever imports a library are their own
"""


def python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True)


def test_core_works_without_mmdet_mmseg_and_mmcv():
    result = python(PROBE)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ''


def test_no_environment_variable_changes_the_backbone(monkeypatch):
    import mlp_dense

    monkeypatch.setenv('FORK_LAST3', '1')
    assert hasattr(mlp_dense.CycleMLP('b1', fork_feat=True), 'norm0')


def test_mmdet_and_mmseg_find_the_backbone_under_their_own_scope():
    result = python(
        'import mlp_dense\n'
        'from mmdet.registry import MODELS as det\n'
        'from mmseg.registry import MODELS as seg\n'
        'for registry in (det, seg):\n'
        "    assert type(registry.build(dict(type='CycleMLP', arch='b1'))) is mlp_dense.CycleMLP\n"
    )
    assert result.returncode == 0, result.stderr


def imports() -> Iterator[tuple[str, str]]:
    """Every module of the package with each name that it imports, also inside functions."""
    for path in PACKAGE.rglob('*.py'):
        module = '.'.join(path.relative_to(PACKAGE.parent).with_suffix('').parts).removesuffix('.__init__')
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Import):
                yield from ((module, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f'{module}: relative import'
                yield module, node.module or ''


def test_rooms_import_lower_rooms_only():
    rank = {room: number for number, rooms in enumerate(ROOMS) for room in rooms}
    edges = [(module.split('.'), name.split('.')) for module, name in imports() if name.startswith('mlp_dense.')]
    inside = [(user[1], used[1]) for user, used in edges if user[1:] not in ([], ['__main__'])]
    assert len(inside) > 100
    upwards = {(user, used) for user, used in inside if user != used and rank[used] >= rank[user]}
    assert not upwards


def test_no_circle_of_modules():
    edges: dict[str, set[str]] = {}
    modules = {module for module, _ in imports()}
    for module, name in imports():
        if module != 'mlp_dense' and name in modules and name != module:
            edges.setdefault(module, set()).add(name)
    TopologicalSorter(edges).prepare()  # raises CycleError


def test_the_core_names_neither_mmdet_nor_mmseg_nor_mmcv():
    named = {(module, name) for module, name in imports() if name.split('.')[0] in ('mmdet', 'mmseg', 'mmcv')}
    assert named and not [pair for pair in named if pair[0].split('.')[1:2] and pair[0].split('.')[1] in CORE]
