"""Processes that train together have the same weights after every step: all families, with other data in each."""

from __future__ import annotations

import socket
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from runs import server, wait_for
from training_pair import train

from families import FAMILIES


@pytest.fixture(scope='module')
def trained():
    """For each of two processes and each family: (losses, digest) without and with recomputed activations."""
    with socket.socket() as probe, TemporaryDirectory() as folder:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
        probe.close()
        files = [Path(folder, str(rank)) for rank in range(2)]
        processes = [server().Process(target=train, args=(file, rank, port)) for rank, file in enumerate(files)]
        for process in processes:
            process.start()
        for process in processes:
            wait_for(process)
        return [torch.load(file) for file in files]


@pytest.mark.parametrize('number', range(len(FAMILIES)), ids=[family.type for family in FAMILIES])
def test_two_processes_have_the_same_weights(number, trained):
    (first, recomputed), (second, _) = (process[number] for process in trained)
    assert first[0] != second[0]  # each has data and dropped paths of its own
    assert first[1] == second[1]
    assert recomputed[0] == pytest.approx(first[0], rel=1e-5)


@pytest.mark.parametrize('number', range(len(FAMILIES)), ids=[family.type for family in FAMILIES])
def test_recomputed_activations_keep_the_processes_equal(number, trained):
    (_, first), (_, second) = (process[number] for process in trained)
    assert first[1] == second[1]
