"""Shared settings: explicit seeds, and one thread, since the tensors here are too small to share out."""

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)
