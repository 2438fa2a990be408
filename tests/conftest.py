"""Shared settings: explicit seeds, and one thread, since the tensors here are too small to share out."""

import sys
from pathlib import Path

import pytest
import torch

# The tools import each other's modules; at the end, so that tools/test.py hides nothing of the standard library.
sys.path.append(str(Path(__file__).resolve().parent.parent / 'tools'))
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)
