"""The wheel of mlp_dense: what it holds and what it asks for, wherever it is built."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser

import pytest
from packaging.requirements import Requirement
from runs import ROOT

import mlp_dense


@pytest.fixture(scope='module')
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel built from a copy of what git would hold."""
    copy = tmp_path_factory.mktemp('copy')
    for name in ('pyproject.toml', 'LICENSE'):
        shutil.copy(ROOT / name, copy)
    for folder in ('mlp_dense', 'benchmarks', 'tools', 'examples'):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns('__pycache__'))
    command = [sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '--no-build-isolation', '-w', 'out', '.']
    subprocess.run(command, cwd=copy, check=True)
    (path,) = copy.glob('out/*.whl')
    return zipfile.ZipFile(path)


@pytest.fixture(scope='module')
def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith('.dist-info/METADATA'))
    return Parser().parsestr(wheel.read(name).decode())


def test_the_wheel_holds_every_file_of_the_package_and_no_other(wheel: zipfile.ZipFile) -> None:
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / 'mlp_dense').rglob('*') if path.is_file()}
    expected = {name for name in files if '__pycache__' not in name}
    assert {name for name in wheel.namelist() if '.dist-info/' not in name} == expected
    assert {'mlp_dense/report/page.html', 'mlp_dense/report/page.css'} <= expected


def test_the_version_is_the_package_s_own(metadata: Message) -> None:
    assert (metadata['Name'], metadata['Version']) == ('mlp_dense', mlp_dense.__version__)


def asked(metadata: Message, extra: str) -> set[str]:
    """The names that `pip install mlp_dense[extra]` asks for besides those without an extra."""
    requirements = [Requirement(text) for text in metadata.get_all('Requires-Dist')]
    chosen = [pin for pin in requirements if pin.marker and pin.marker.evaluate({'extra': extra})]
    inner = [asked(metadata, name) for pin in chosen if pin.name == 'mlp_dense' for name in pin.extras]
    return {pin.name for pin in chosen if pin.name != 'mlp_dense'}.union(*inner)


def test_requirements_are_the_maintained_forks_and_every_extra_is_whole(metadata: Message) -> None:
    requirements = [Requirement(text) for text in metadata.get_all('Requires-Dist')]
    plain = {pin.name for pin in requirements if not pin.marker}
    assert plain == {'torch', 'timm', 'safetensors', 'onedl-mmengine'}
    assert {'onedl-mmcv', 'onedl-mmdetection'} <= asked(metadata, 'det')
    assert {'onedl-mmcv', 'onedl-mmsegmentation'} <= asked(metadata, 'seg')
    assert {'onedl-mmcv', 'onedl-mmpretrain'} <= asked(metadata, 'cls')
    parts = ('det', 'seg', 'cls', 'robust')
    assert asked(metadata, 'all') == set().union(*(asked(metadata, part) for part in parts))
    assert {'onnx', 'onnxruntime', 'onnxscript'} == asked(metadata, 'export')
    assert {'pytest', 'ruff', 'mypy'} <= asked(metadata, 'dev')
    assert sorted(metadata.get_all('Provides-Extra')) == ['all', 'cls', 'det', 'dev', 'export', 'robust', 'seg']


def test_every_range_admits_the_tested_version(metadata: Message) -> None:
    """What is asked for is pinned in constraints.txt, and the pin lies in the range."""
    pins = [Requirement(line) for line in (ROOT / 'constraints.txt').read_text().splitlines() if line[:1].isalnum()]
    tested = {pin.name: next(iter(pin.specifier)).version for pin in pins if not pin.marker or pin.marker.evaluate()}
    for text in metadata.get_all('Requires-Dist'):
        wanted = Requirement(text)
        if wanted.name != 'mlp_dense':
            assert wanted.specifier.contains(tested[wanted.name]), text
