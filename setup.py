"""Package metadata. `make setup` installs everything as tested (constraints.txt); here stand ranges.

OpenMMLab's packages exist twice under the same import names: OneDL's maintained forks (`onedl-mmengine`, ...) and the
classic ones (`mmengine`, ...). Both write into the same folders, so asking for one where the other is installed would
overwrite it. The requirements therefore name the set whose mmengine is already in the environment, and OneDL's where
there is none. A user on the classic packages installs them first and then runs `pip install .` as usual;
`pip install --no-deps .` also works and looks at nothing.
"""

from __future__ import annotations

import re
import sysconfig
from pathlib import Path

from setuptools import find_packages, setup

ONEDL = {
    'mmengine': 'onedl-mmengine>=0.10.8,<1',
    'mmcv': 'onedl-mmcv>=2.3,<3',
    'mmdet': 'onedl-mmdetection>=3.5,<4',
    'mmseg': 'onedl-mmsegmentation>=1.4,<2',
}
CLASSIC = {
    'mmengine': 'mmengine>=0.10,<1',
    'mmcv': 'mmcv>=2.1,<3',
    'mmdet': 'mmdet>=3.3,<4',
    'mmseg': 'mmsegmentation>=1.2,<2',
}


def openmmlab(site_packages: Path) -> dict[str, str]:
    """Requirements on OpenMMLab by import name: the classic set where only classic mmengine is installed, else OneDL's.

    The folder is read instead of `importlib.metadata`, which pip's build isolation hides.
    """
    onedl = any(site_packages.glob('onedl_mmengine-*.dist-info'))
    classic = any(site_packages.glob('mmengine-*.dist-info')) or any(site_packages.glob('mmengine_lite-*.dist-info'))
    return CLASSIC if classic and not onedl else ONEDL


def extras(mm: dict[str, str]) -> dict[str, list[str]]:
    """Optional requirements: detection, segmentation, both; export; the test suite and the linters."""
    common = [mm['mmcv'], 'jinja2', 'matplotlib', 'tensorboard']
    det = [*common, mm['mmdet']]
    seg = [*common, mm['mmseg'], 'ftfy', 'regex']
    export = ['onnx>=1.17', 'onnxruntime>=1.20', 'onnxscript>=0.5']
    dev = ['mypy', 'playwright', 'pre-commit', 'pytest', 'pytest-xdist', 'ruff']
    return {'det': det, 'seg': seg, 'all': sorted({*det, *seg}), 'export': export, 'dev': dev}


def version() -> str:
    """The version as written in the package, read without importing it (that would need torch)."""
    text = Path(__file__).with_name('mlp_dense').joinpath('__init__.py').read_text(encoding='utf-8')
    found = re.search(r"^__version__ = '([^']+)'", text, re.MULTILINE)
    if found is None:
        raise RuntimeError("mlp_dense/__init__.py has no line __version__ = '...'")
    return found[1]


def main() -> None:
    mm = openmmlab(Path(sysconfig.get_paths()['purelib']))
    setup(
        name='mlp_dense',
        version=version(),
        description='MLP-like vision backbones for dense prediction on OpenMMLab',
        license='Apache-2.0',
        python_requires='>=3.10',
        packages=find_packages(include=['mlp_dense', 'mlp_dense.*']),
        package_data={'mlp_dense.report': ['*.html', '*.css']},
        install_requires=['torch>=2.1', 'timm>=1.0', 'safetensors', mm['mmengine']],
        extras_require=extras(mm),
    )


if __name__ == '__main__':
    main()
