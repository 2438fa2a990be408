"""Shared settings: explicit seeds, and two threads as on the machines that run the suite."""

import pytest
import torch

torch.set_num_threads(2)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)
