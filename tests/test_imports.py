"""The core stands alone: importing it pulls in neither detection nor segmentation, prints nothing, needs no GPU."""

import subprocess
import sys

PROBE = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('mmdet', 'mmseg', 'mmcv'):
            raise ImportError(f'{name} is not installed')

sys.meta_path.insert(0, Blocked())
import mlp_dense
import torch
from mmengine.registry import MODELS
model = MODELS.build(dict(type='CycleMLP', arch='b1', fork_feat=True))
assert len(model(torch.zeros(1, 3, 32, 32))) == 4
assert not torch.cuda.is_initialized()
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
