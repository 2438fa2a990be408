"""The saving of checkpoints: complete or not at all, and the old one is kept until the new one is there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import FileClient, register_backend
from mmengine.fileio.backends import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from mlp_dense.engine.latest import number_in
from mlp_dense.engine.resume import INTERRUPTED, OUTDATED
from mlp_dense.errors import DISK_FULL, UserError
from mlp_dense.folders import write_file

VALIDATED = 'iter_of_validation'
"""The key of the message hub with the iterations at the last validation; mmengine prints keys that begin with val."""


class AtomicBackend(LocalBackend):
    """mmengine's files on local disks, each of which appears complete or not at all.

    It takes the place of mmengine's own when this module is imported, so that it serves whatever saves a checkpoint.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes to a file, whose folder is made. Raises OSError, and then leaves nothing of it."""
        Path(filepath).parent.mkdir(parents=True, exist_ok=True)
        write_file(filepath, obj)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write text to a file, whose folder is made. Raises OSError, and then leaves nothing of it."""
        self.put(obj.encode(encoding), filepath)


register_backend('local', AtomicBackend, force=True, prefixes='')
FileClient.register_backend('disk', AtomicBackend, force=True)  # for file_client_args


class LateRemoval:
    """A file backend that notes what it is asked to remove, and removes nothing."""

    def __init__(self, backend: Any, outdated: list[str]):
        self.backend, self.outdated = backend, outdated

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def remove(self, path: str) -> None:
        """Note the path of a file."""
        self.outdated.append(str(path))

    def rmtree(self, path: str) -> None:
        """Note the path of a folder, which DeepSpeed's checkpoints are."""
        self.outdated.append(str(path))


@HOOKS.register_module()
class SavingHook(CheckpointHook):
    """mmengine's CheckpointHook, which removes an outdated checkpoint only after the new one is complete.

    What a checkpoint makes outdated is listed in it: if the training is killed before the removal, the resumed one does
    it. Takes the arguments of CheckpointHook.
    """

    out_dir: str
    file_backend: Any

    outdated: list[str]
    """The paths to remove after the next checkpoint."""

    saved_iterations: int | None = None
    """The iterations that were done at the last regular checkpoint of this process."""

    def before_train(self, runner: Runner) -> None:
        """Remove what the checkpoint to resume from has made outdated, and find the folder of the checkpoints."""
        super().before_train(runner)
        if '://' not in self.out_dir:
            self.out_dir = os.path.abspath(self.out_dir)
        self.outdated = []
        self.file_backend = LateRemoval(self.file_backend, self.outdated)
        info = runner.message_hub.runtime_info
        self.outdated += [path for path in info.get(OUTDATED) or () if self._is_own(path)]
        self._remove_outdated(info.get('last_ckpt'))

    def save_now(self, runner: Runner, iterations: int | None = None) -> None:
        """Save a complete checkpoint at once, unless the regular one of this iteration has just been saved.

        A training by iterations saves a regular one. One by epochs saves ``interrupted.pth``, which stays until the
        next regular one is complete.

        Args:
            runner: the runner, in all of its processes.
            iterations: the iterations that are done; by default the present one is the last of them, as in
                ``after_train_iter``.
        """
        done = runner.iter + 1 if iterations is None else iterations
        if self.saved_iterations == done:
            return
        meta = {'epoch': runner.epoch, 'iter': done}
        if self.by_epoch:
            self._save(runner, INTERRUPTED, meta, by_epoch=False)
        else:
            self._save_checkpoint_with_step(runner, done, meta)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        """Save a regular checkpoint, then remove what is outdated."""
        kept = self.keep_ckpt_ids if self.max_keep_ckpts > 0 else None
        if kept is not None and step not in kept:
            if len(kept) == self.max_keep_ckpts:
                self.outdated.append(self._path(self.filename_tmpl.format(kept.popleft())))
            kept.append(step)
        if kept is not None:
            runner.message_hub.update_info('keep_ckpt_ids', list(kept))
        if Path(str(runner.message_hub.runtime_info.get('last_ckpt'))).name == INTERRUPTED:
            self.outdated.append(self._path(INTERRUPTED))
        self._save(runner, self.filename_tmpl.format(step), meta, self.by_epoch)
        self.saved_iterations = meta['iter']

    def _save(self, runner: Runner, name: str, meta: dict[str, Any], by_epoch: bool) -> None:
        self.last_ckpt = self._path(name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.message_hub.update_info(OUTDATED, list(self.outdated))
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            record = os.path.join(runner.work_dir, 'last_checkpoint')
            try:
                AtomicBackend().put_text(self.last_ckpt, record)
            except OSError as error:
                raise not_written(error, record) from error
        self._remove_outdated()

    def _save_best_checkpoint(self, runner: Runner, metrics: Mapping[str, Any]) -> None:
        """Save the checkpoints of the best metrics as mmengine does, then remove the earlier ones.

        The regular checkpoint, which mmengine saves again with the new best score, is marked as validated.
        """
        runner.message_hub.update_info(VALIDATED, runner.iter)
        super()._save_best_checkpoint(runner, metrics)
        self._remove_outdated()

    def _remove_outdated(self, resumed: str | None = None) -> None:
        """Remove the outdated files, but none that is in use."""
        in_use = {self.last_ckpt, resumed, getattr(self, 'best_ckpt_path', None)}
        in_use |= set(getattr(self, 'best_ckpt_path_dict', {}).values())
        in_use |= {self._path(self.filename_tmpl.format(step)) for step in getattr(self, 'keep_ckpt_ids', ())}
        backend = self.file_backend.backend
        for path in self.outdated if is_main_process() else ():
            if path not in in_use and backend.isfile(path):
                backend.remove(path)
            elif path not in in_use and backend.isdir(path):
                backend.rmtree(path)
        self.outdated.clear()

    def _path(self, name: str) -> str:
        return str(self.file_backend.join_path(self.out_dir, name))

    def _is_own(self, path: str) -> bool:
        """Tell whether a path is one that this hook would write a checkpoint to."""
        name = Path(path).name
        is_checkpoint = number_in(name, self.filename_tmpl) or name.startswith('best_') or name == INTERRUPTED
        return bool(is_checkpoint) and self._path(name) == path


def with_own_hook(hook: Any) -> Any:
    """Return what a runner is to register for a hook: for the config of mmengine's CheckpointHook that of ours."""
    kind = hook.get('type') if isinstance(hook, Mapping) else None
    is_stock = (HOOKS.get(kind) if isinstance(kind, str) else kind) is CheckpointHook
    return {**hook, 'type': SavingHook} if is_stock else hook


def not_written(error: OSError, file: str) -> UserError:
    """Return what a user can do about a file of a training that cannot be written."""
    if error.errno in DISK_FULL:
        return UserError(f'{file} cannot be written: no space left on the disk; make room and go on with --resume')
    reason = error.strerror or str(error)
    return UserError(f'{file} cannot be written ({reason}); mend that and go on with --resume')
