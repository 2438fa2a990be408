"""The start of a training or test: checks, what this machine cannot do, and mmengine's runner."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import master_only
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from mlp_dense.checkpoints import average_with_own_names, load_into, read_checkpoint, unwrapped, with_own_names
from mlp_dense.checkpoints.finite import check_training_state
from mlp_dense.engine import hooks, nonfinite
from mlp_dense.engine.checks import check_data, check_init, check_training
from mlp_dense.engine.checks.classes import check_saved_classes
from mlp_dense.engine.config import load_config
from mlp_dense.engine.console import RunConsole, on_screen
from mlp_dense.engine.endings import one_line_endings
from mlp_dense.engine.fsdp import Sharding, is_sharded, take_whole
from mlp_dense.engine.latest import checkpoint_folder, choose_start
from mlp_dense.engine.loaders import build_dataloader
from mlp_dense.engine.machine import check_launcher, fit_to_cpu, fit_to_packages
from mlp_dense.engine.precision import HALF, casts_kept, choose_dtype, keep_exact, set_training
from mlp_dense.engine.randomness import keep_seed, register_hooks
from mlp_dense.engine.resume import check_state, compare_runs, keep_to_data, shape_of_run
from mlp_dense.engine.saved_state import check_saved_state, follow_layouts
from mlp_dense.engine.saving import not_written, with_own_hook
from mlp_dense.engine.schedule import resume_schedules, schedules
from mlp_dense.engine.signals import StopHook
from mlp_dense.engine.watch import WatchHook
from mlp_dense.engine.work_dir import alone, lock_folders, raise_full_disk
from mlp_dense.errors import UserError
from mlp_dense.folders import make_folder, write_file
from mlp_dense.safe_files import check_file


def read_config(args: Namespace) -> Config:
    """Read the config that a command line asks for.

    Args:
        args: config, cfg_options, work_dir, launcher and local_rank, as tools/train.py and tools/test.py parse them.

    Raises:
        UserError: the config or an option is wrong.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = load_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs') / Path(args.config).stem)
    return cfg


@one_line_endings()
@on_screen
@alone
def train(cfg: Config, amp: str | None = None) -> None:
    """Train, with validation as the config says.

    Args:
        cfg: the config, which is changed.
        amp: mixed precision, see :func:`~mlp_dense.engine.precision.choose_dtype`; None leaves it to the config.
            Validation is in float32.

    Raises:
        UserError: data, checkpoint or an image is missing or broken, before anything is written where possible.
    """
    precision = set_training(cfg, amp)
    check_data(cfg, 'train', 'val')
    check_training(cfg)
    choose_start(cfg)
    if cfg.get('load_from'):
        check_file(cfg.load_from)
    check_init(cfg.model, 'model')
    make_folder(cfg.work_dir, '--work-dir')
    make_folder(checkpoint_folder(cfg), 'default_hooks.checkpoint.out_dir')
    lock_folders(cfg)
    if cfg.get('resume'):
        keep_seed(cfg)
    runner = build_runner(cfg)
    runner.exact, runner.precision = bool(cfg.get('resume')), precision
    with nonfinite.explained(runner):
        runner.train()


@one_line_endings()
@on_screen
def test(cfg: Config, checkpoint: str, amp: str | None = None) -> dict[str, float]:  # noqa: PT028  no pytest
    """Test a checkpoint and return the metrics.

    Args:
        cfg: the config, which is changed.
        checkpoint: the file.
        amp: mixed precision, see :func:`~mlp_dense.engine.precision.choose_dtype`.

    Raises:
        UserError: data, checkpoint or an image is missing or broken.
    """
    dtype = choose_dtype(amp, get_device())
    check_data(cfg, 'test')
    check_file(checkpoint)
    make_folder(cfg.work_dir, '--work-dir')
    cfg.load_from, cfg.resume = checkpoint, False
    take_whole(cfg)
    if dtype is not None:
        cfg.test_cfg = {**(cfg.get('test_cfg') or {}), 'fp16': True}  # the loop's autocast, to the type set around it
    runner = build_runner(cfg)
    runner.precision = HALF.get(dtype, '')
    with casts_kept(dtype, get_device()):
        return runner.test()


class CheckedRunner(Runner):
    """A runner of mmengine that takes only checkpoints that fit, and names a file that cannot be read."""

    exact = True
    """Whether heads must fit too; False for fine-tuning, where the backbone alone must."""
    precision = ''
    """The name of the type of mixed precision; empty for float32."""

    build_dataloader = staticmethod(build_dataloader)

    def build_logger(self, *args: Any, **options: Any) -> MMLogger:
        """Build mmengine's logger, whose file has everything and whose screen is the run's console."""
        logger = super().build_logger(*args, **options)
        raise_full_disk(logger)
        if RunConsole.current is not None:
            RunConsole.current.attach(logger)
        return logger

    @master_only
    def dump_config(self) -> None:
        """Write the config to the work dir, complete or not at all: a killed run may have read it from there."""
        name = Path(self.cfg.filename or f'{self.timestamp}.py').name
        write_file(Path(self.work_dir, name), self.cfg.dump().encode())

    def register_hook(self, hook: Any, priority: Any = None) -> None:
        """Register a hook as mmengine's runner does, with SavingHook in the place of CheckpointHook."""
        super().register_hook(with_own_hook(hook), priority)

    def load_checkpoint(self, filename: str, map_location: Any = 'cpu', **options: Any) -> dict[str, Any]:
        """Load a checkpoint into the model and return what else it holds, as mmengine's runner does.

        Raises:
            UserError: it cannot be read or does not fit.
        """
        content = read_checkpoint(filename)
        if self._resume:
            check_state(content, filename, self.cfg)
            check_saved_state(self, content, filename)
        if self.exact:
            check_saved_classes(self.cfg, content.get('meta'), filename)
        has_both = self._resume and 'steps' in (content.get('ema_state_dict') or {})
        if has_both:  # EMAHook exchanges the average and the weights, which it has saved in each other's place
            model, average = unwrapped(self.model), content['ema_state_dict']
            content['state_dict'] = with_own_names(model, content['state_dict'])
            content['ema_state_dict'] = {'steps': average['steps'], **average_with_own_names(model, average)}
            self.call_hook('after_load_checkpoint', checkpoint=content)
        if self._resume:
            check_training_state(content, filename, unwrapped(self.model))
        load_into(self.model, filename, exact=self.exact, content=content)
        if not has_both:  # EMAHook starts its average from these tensors, which the file may name otherwise or lack
            rest = {name: value for name, value in content.items() if name != 'ema_state_dict'}
            self.call_hook(
                'after_load_checkpoint', checkpoint={**rest, 'state_dict': unwrapped(self.model).state_dict()}
            )
        self._has_loaded = True
        keep_to_data(content, filename, checkpoint_folder(self.cfg))
        self.saved: dict[str, Any] = {key: content.get(key) for key in ('meta', 'param_schedulers')}
        return content

    def resume(self, filename: str, *args: Any, **options: Any) -> None:
        """Resume as mmengine's runner does, but under the schedule of the config.

        Raises:
            UserError: the checkpoint lacks the state of a training, or it is another training's.
        """
        starts = schedules(self)
        try:
            super().resume(filename, *args, resume_param_scheduler=False, **options)
        except ValueError as error:
            if 'parameter group' not in str(error):
                raise
            raise UserError(
                f'checkpoint {filename}: its optimizer is of other parameters than this config gives ({error}); resume '
                'with the config of that training, or set load_from without --resume'
            ) from error
        follow_layouts(self)
        is_same_length = compare_runs(self, self.saved['meta'])
        resume_schedules(self, starts, self.saved['param_schedulers'], is_same_length)

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **options: Any) -> None:
        """Save a checkpoint as mmengine's runner does, in all processes.

        Raises:
            UserError: the disk is full, or what is to be saved is not finite.
        """
        nonfinite.check_finite(self)
        options['meta'] = {**(options.get('meta') or {}), **shape_of_run(self)}
        try:
            super().save_checkpoint(out_dir, filename, *args, **options)
        except OSError as error:
            raise not_written(error, f'checkpoint {os.path.join(out_dir, filename)}') from error


class ShardedRunner(Sharding, CheckedRunner):
    """A checked runner whose model is sharded over its processes."""


def fit_optimizer(cfg: Config) -> None:
    """Let AdamW be PyTorch's fused one, in place, unless the config says how it runs or scales its losses.

    A scaler calls a fused one for the steps that it leaves out, too, and no one else learns of them; and it stops at a
    checkpoint of an optimizer that was not fused.
    """
    wrapper = cfg.get('optim_wrapper') or {}
    optimizer = wrapper.get('optimizer') or {}
    if wrapper.get('type') == 'AmpOptimWrapper':
        optimizer.pop('fused', None)
    elif optimizer.get('type') == 'AdamW' and not {'fused', 'foreach', 'capturable', 'differentiable'} & set(optimizer):
        optimizer['fused'] = True


def build_runner(cfg: Config) -> CheckedRunner:
    """Build the runner of a config that has been checked, fitted to what this machine can do."""
    check_launcher(cfg.launcher)
    fit_to_packages(cfg)
    if get_device() == 'cpu':
        fit_to_cpu(cfg)
    fit_optimizer(cfg)
    hooks.replace_visualization(cfg)
    runner = (ShardedRunner if is_sharded(cfg) else CheckedRunner).from_cfg(cfg)
    keep_exact(unwrapped(runner.model))
    register_hooks(runner)
    nonfinite.add_hooks(runner)
    runner.register_hook(WatchHook(cfg.filename), priority='VERY_LOW')
    runner.register_hook(StopHook())
    if RunConsole.current is not None:
        RunConsole.current.watch(runner)
    return runner
