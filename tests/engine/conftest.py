"""Small configs on generated data, for the checks before the start."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from runs import small_config

from mlp_dense.datasets.shapes import make_shapes
from mlp_dense.engine.config import apply_option, load_config


@pytest.fixture(scope='session')
def shapes(tmp_path_factory) -> Path:
    """Eight training and four validation images of 96x64 pixels."""
    root = tmp_path_factory.mktemp('engine') / 'data'
    make_shapes(root, train=8, val=4, size=(96, 64), seed=0)
    return root


@cache
def _read(method: str) -> Config:
    return load_config(str(small_config(method)))


@pytest.fixture
def small(shapes) -> Callable[..., Config]:
    """Make the small config of a method on the generated data, with full keys set as options or, by None, taken out."""

    def make(method: str, settings: dict[str, Any] | None = None) -> Config:
        cfg = deepcopy(_read(method))
        for key, value in {'data_root': str(shapes), **(settings or {})}.items():
            apply_option(cfg, f'+{key}' if key != 'data_root' else key, value)
        return cfg

    return make
