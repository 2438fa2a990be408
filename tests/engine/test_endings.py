"""What PyTorch says in many lines is told in one, and the process group is left."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import pytest
import torch
import torch.distributed as dist
from mmengine.registry import HOOKS, build_from_cfg
from torch.utils.data import DataLoader

from mlp_dense.engine.endings import one_line_endings
from mlp_dense.errors import UserError


class Dying:
    """A data set that ends the process that reads it."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_data_worker_is_told_in_one_line():
    loader = DataLoader(Dying(), num_workers=1)
    with pytest.raises(UserError, match=r'a data worker was ended from outside.*fewer num_workers') as error:
        one_line_endings()(next)(iter(loader))
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('error', 'remedy'),
    [
        (torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has'), '--amp'),
        (RuntimeError('Unexpected bus error. It is possible that dataloader workers are out of shared memory'), 'shm'),
        (OSError(24, 'Too many open files'), 'ulimit -n'),
        (
            RuntimeError('[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1'),
            'another process',
        ),
    ],
)
def test_an_error_of_pytorch_with_a_remedy(error, remedy):
    with pytest.raises(UserError, match=remedy) as raised, one_line_endings():
        raise error
    assert '\n' not in str(raised.value)


def test_a_name_that_no_registry_has_is_told_in_one_line():
    with pytest.raises(UserError) as error, one_line_endings():
        build_from_cfg(dict(type='EMAHok'), HOOKS)
    assert 'EMAHok is no hook that' in str(error.value) and 'knows; correct that type' in str(error.value)


def test_an_argument_that_a_class_does_not_take_is_told_in_one_line():
    with pytest.raises(UserError, match='LoggerHook takes no shuffle, which stands'), one_line_endings():
        build_from_cfg(dict(type='LoggerHook', shuffle=True), HOOKS)


@pytest.mark.parametrize('error', [RuntimeError('shapes differ'), OSError(2, 'x'), KeyError('x'), KeyboardInterrupt()])
def test_other_errors_stay_as_they_are(error):
    with pytest.raises(type(error)) as raised, one_line_endings():
        raise error
    assert raised.value is error


@pytest.mark.parametrize('error', [None, UserError('x')])
def test_the_process_group_is_left(error, tmp_path):
    def run():
        dist.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
        if error is not None:
            raise error

    with suppress(UserError):
        one_line_endings()(run)()
    assert not dist.is_initialized()
