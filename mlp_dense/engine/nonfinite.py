"""Numbers that are not finite: a training stops on them or skips the steps, and never saves them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from mmengine import dist
from mmengine.hooks import CheckpointHook, Hook
from mmengine.optim import OptimWrapperDict
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor, nn

from mlp_dense.checkpoints import unwrapped
from mlp_dense.checkpoints.finite import constants, in_words, spoilt_tensors
from mlp_dense.engine.agreement import AgreementHook
from mlp_dense.engine.batch_images import image_paths, listed
from mlp_dense.engine.losses import has_bad_loss, losses_in_words
from mlp_dense.engine.skipping import SCALER_LIMIT, SkippedSteps
from mlp_dense.errors import UserError

REMEDY = (
    'a smaller rate (optim_wrapper.optimizer.lr), clipped gradients (optim_wrapper.clip_grad.max_norm=1) or without '
    'such steps (default_hooks.nonfinite.max_skipped=10)'
)


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """A hook that ends a training whose loss, gradients or weights are not finite, or skips such steps.

    All processes end, or skip a step, together. A skipped step changes neither weights nor the optimizer's state nor
    the statistics of norm layers; iterations, schedules and averages of the weights go on, as with a loss scaler. A
    loss scaler (AmpOptimWrapper) skips by itself: only if it does nothing else any more, the training ends.

    Looking costs no wait for a GPU: the losses are read by mmengine in any case. Skipping needs the gradients before a
    step, and so waits once for each, as a loss scaler does.

    Args:
        max_skipped: the most steps in a row that are skipped; default 0: the training ends at the first one.

    Raises:
        UserError: ``max_skipped`` is no whole number from 0 on.
    """

    priority = 'VERY_HIGH'  # after RuntimeInfoHook has read the losses, before averages, schedules and checkpoints

    def __init__(self, max_skipped: int = 0):
        if not isinstance(max_skipped, int) or max_skipped < 0:
            raise UserError(f'default_hooks.nonfinite.max_skipped={max_skipped!r} is no number of steps; set 0 or more')
        self.max_skipped = max_skipped
        self.iteration, self.total = 0, 0
        self.images: list[str] = []
        self.images_before: list[str] = []
        self.last_checkpoint: str | None = None

    def before_train(self, runner: Runner) -> None:
        """Prepare for the question whether a loss is finite, and where steps may be skipped, for leaving them out."""
        wrapper = runner.optim_wrapper
        self.wrappers = list(wrapper.values()) if isinstance(wrapper, OptimWrapperDict) else [wrapper]
        for wrapper in self.wrappers:
            (wrapper.clip_grad_kwargs or {}).pop('error_if_nonfinite', None)  # it would end in a traceback
        self.exempt = constants(unwrapped(runner.model))
        self.agreement = next(hook for hook in runner.hooks if isinstance(hook, AgreementHook))
        self.agreement.ask('nonfinite', self._has_bad_loss)
        self.steps = SkippedSteps(unwrapped(runner.model), self.wrappers, self.max_skipped)
        total = runner.message_hub.runtime_info.get('skipped_steps')
        self.total = total if isinstance(total, int) else 0

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Note what a message will tell."""
        self.iteration = runner.iter + 1
        self.images, self.images_before = image_paths(data_batch), self.images
        self.last_checkpoint = _last_checkpoint(runner)
        self.steps.keep()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """End the training, or count a skipped step, where a number is not finite.

        Raises:
            UserError: a number is not finite and may not be skipped.
        """
        steps, is_bad = self.steps, self.agreement.answer('nonfinite') > 0
        is_counted = steps.count(is_bad)
        fault = self._fault(outputs) if is_bad or steps.is_skipped else None
        may_go_on = is_counted or (steps.is_possible and not steps.is_due)  # or its step is still to come
        if is_bad and not may_go_on:
            self.stop(runner, fault)
        if is_bad or steps.is_skipped:
            steps.restore()
            self.check(runner)
            self._report(runner, fault, is_counted)
        if steps.by_scaler > SCALER_LIMIT:
            begin = f'the loss scaler has skipped {SCALER_LIMIT} steps in a row, whatever the scale'
            self.stop(runner, f'{begin} ({losses_in_words(outputs)})')

    def before_val(self, runner: Runner) -> None:
        """End a training whose weights are not finite before it judges them."""
        if self.iteration:
            self.check(runner)

    def after_train(self, runner: Runner) -> None:
        """Tell how many steps were skipped. Raises UserError if the weights at the end are not finite."""
        if self.iteration:
            self.check(runner)
        if self.total:
            runner.logger.warning(f'{self.total} steps of this training were skipped: their numbers were not finite')

    def stop(self, runner: Runner, fault: str | None) -> NoReturn:
        """Raise UserError in every process, with what the first one that has a fault knows of it.

        Args:
            runner: the runner of the training.
            fault: what is not finite in this process, None if nothing is. All processes have to call this.
        """
        everyone = dist.all_gather_object((fault or '', self.images_in_words(), self.last_checkpoint))
        faults = [fault for fault, *_ in everyone]
        losses = [fault for fault in faults if fault.startswith('the loss')]  # where the gradients' fault comes from
        process = faults.index(next(filter(None, [*losses, *faults])))
        self.last_checkpoint = everyone[0][2]
        where = f' in process {process}' * (len(everyone) > 1)
        raise self.error(runner, faults[process] + where, everyone[process][1])

    def images_in_words(self) -> str:
        """Name the images of the present batch, and of the one before where nothing is known of its gradients."""
        before = f'; of the one before, whose step may be the cause: {listed(self.images_before)}'
        is_known = any(_has_norm(wrapper) for wrapper in self.wrappers)  # that the gradients before were finite
        return f'images of the batch: {listed(self.images)}' + before * bool(self.images_before and not is_known)

    def error(self, runner: Runner, fault: str, images: str) -> UserError:
        """Return the error that tells a fault of the present iteration, and how to go on."""
        when = f'epoch {runner.epoch + 1}, ' * isinstance(runner.train_loop, EpochBasedTrainLoop)
        last = self.last_checkpoint
        begin = f'go on from {last}, the last checkpoint, with --resume and' if last else 'start anew with'
        return UserError(
            f'{when}iteration {self.iteration}: {fault}; {images}. Nothing of it is saved; {begin} {REMEDY}'
        )

    def check(self, runner: Runner) -> None:
        """Raise UserError in every process if the state of the training is not finite in one of them."""
        spoilt = self.spoilt(runner)
        if any(dist.all_gather_object(bool(spoilt))):
            self.stop(runner, in_words(spoilt) if spoilt else None)

    def spoilt(self, runner: Runner) -> dict[str, list[str]]:
        """Find what is not finite in this process, see :func:`spoilt_tensors`."""
        model = unwrapped(runner.model)
        names = {parameter: name for name, parameter in model.named_parameters()}
        states = [wrapper.optimizer.state for wrapper in self.wrappers]
        content = {
            'state_dict': _named(model),
            'ema_state_dict': [_named(hook.ema_model.module) for hook in runner.hooks if hasattr(hook, 'ema_model')],
            'optimizer': {names.get(key, key): state for part in states for key, state in part.items()},
        }
        return spoilt_tensors(content, self.exempt)

    def _has_bad_loss(self, losses: Mapping[str, Any]) -> float | Tensor:
        """Tell whether a loss is not finite, or without a loss scaler the norm of the gradients."""
        if not (self.steps.is_possible or all(map(math.isfinite, self._norms()))):
            return 1.0
        return has_bad_loss(losses)

    def _norms(self) -> Iterator[float]:
        """List the norms of the gradients that mmengine has read for clipping."""
        for wrapper in self.wrappers:
            if _has_norm(wrapper) and wrapper.should_update():
                history = wrapper.message_hub.log_scalars.get('train/grad_norm')
                if history is not None:
                    yield history.current()

    def _report(self, runner: Runner, fault: str | None, is_counted: bool) -> None:
        """Log a step that is skipped, for all processes. Raises UserError if there were too many in a row."""
        limit = self.steps.limit
        if self.steps.in_a_row > limit:
            self.stop(runner, fault and f'{fault}, and the {limit} steps before were skipped for the like')
        self.total += is_counted
        runner.message_hub.update_info('skipped_steps', self.total)
        reports = dist.all_gather_object(fault and f'{fault}: {listed(self.images)}')
        runner.logger.warning(
            f'iteration {self.iteration}: its step is skipped, {self.steps.in_a_row} in a row of at most {limit}; '
            f'{"; ".join(filter(None, reports))}'
        )

    def _fault(self, outputs: Mapping[str, Any] | None) -> str | None:
        """Say which numbers of an iteration are not finite in this process; None if all are."""
        if bool(has_bad_loss(outputs)):
            return f'the loss is not finite ({losses_in_words(outputs)})'
        norms = ''.join(f', grad_norm={norm:.4g}' for norm in self._norms())
        if self.steps.is_skipped or not all(map(math.isfinite, self._norms())):
            return f'the gradients are not finite ({losses_in_words(outputs)}{norms})'
        return None


def add_hooks(runner: Runner) -> None:
    """Register the hooks that end a training at numbers that are not finite."""
    runner.register_hook(AgreementHook())
    if not any(isinstance(hook, NonFiniteHook) for hook in runner.hooks):
        runner.register_hook(NonFiniteHook())


def check_finite(runner: Runner) -> None:
    """Raise UserError, in all processes if in one, if what a checkpoint would hold is not finite."""
    for hook in runner.hooks:
        if isinstance(hook, NonFiniteHook) and hook.iteration:
            hook.check(runner)


def _has_norm(wrapper: Any) -> bool:
    """Tell whether mmengine reads the norm of the gradients before each step, to clip them."""
    return bool(wrapper.clip_grad_kwargs) and wrapper.grad_name == 'grad_norm'


def _named(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


@contextmanager
def explained(runner: Runner) -> Iterator[None]:
    """Raise UserError for an error of a library that comes of numbers that are not finite, such as in a matching.

    It asks no other process, which may not have that error.
    """
    try:
        yield
    except UserError:
        raise
    except (ArithmeticError, AssertionError, IndexError, RuntimeError, ValueError) as error:
        watch = next(hook for hook in runner.hooks if isinstance(hook, NonFiniteHook))
        text = ' '.join(str(error).split())[:160]
        spoilt = watch.spoilt(runner) if watch.iteration and 'CUDA' not in text else {}
        if not (spoilt or 'invalid numeric entries' in text):
            raise
        fault = in_words(spoilt) if spoilt else 'a prediction is not finite'
        raise watch.error(runner, f'{fault} ({type(error).__name__}: {text})', watch.images_in_words()) from error


def _last_checkpoint(runner: Runner) -> str | None:
    """Return the last checkpoint that this training has written, or the one that it goes on from."""
    saved = (getattr(hook, 'last_ckpt', None) for hook in runner.hooks if isinstance(hook, CheckpointHook))
    return next(filter(None, saved), runner._load_from if runner._resume else None)
