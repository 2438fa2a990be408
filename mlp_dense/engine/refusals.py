"""What libraries refuse of a config while they build its parts or compute with them, told in one line."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

from mmengine.registry import build_from_cfg
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from torch import nn

from mlp_dense.errors import UserError

REFUSALS = (TypeError, ValueError, KeyError, AssertionError)
"""What constructors raise for a value that they do not take."""
SHAPES = re.compile(
    r'to have \d+ (channels|dimensions)|cannot be multiplied|tensors? .*must (match|be equal|have the same)|'
    r'expected (weight|bias|input) to be|running_mean should contain|normalized_shape|[Kk]ernel size can.t be greater'
)
"""What PyTorch says of tensors of shapes that do not fit each other."""
LIBRARIES = ('mmcv', 'mmdet', 'mmengine', 'mmpretrain', 'mmseg')


@contextmanager
def refusals_told() -> Iterator[None]:
    """Raise UserError where a library refuses what a config says of a part that it builds.

    An error that comes of this package's own code is a defect and stays as it is.
    """
    try:
        yield
    except UserError:
        raise
    except REFUSALS as error:
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        building = [frame for frame in frames if _is_building(frame)]
        if not building or frames[-1].f_globals.get('__name__', '').startswith('mlp_dense.'):
            raise
        raise UserError(_in_words(error, building[-1], frames[-1] is building[-1])) from error


def _is_building(frame: FrameType) -> bool:
    """Tell whether a frame is that of a library's function which builds a part of a config."""
    code = frame.f_code
    if frame.f_globals.get('__name__') == 'mmengine.runner.runner':
        return code.co_name.lstrip('_').startswith(('init__', 'build_'))
    return code is build_from_cfg.__code__


def _in_words(error: Exception, frame: FrameType, is_from_there: bool) -> str:
    """Say which part of a config was refused, and why.

    Args:
        error: what was raised.
        frame: that of the innermost function that was building something.
        is_from_there: whether the error comes of that function itself, and not of the class that it builds.
    """
    text = ' '.join(str(error).split()) or traceback.extract_tb(error.__traceback__)[-1].line or ''
    unknown = re.match(r'[\'"]?(\S+) is not in the (\S+?)::(.+?) registry', text)  # mmengine's KeyError
    if unknown:
        name, library, kind = unknown.groups()
        return f'{name} is no {kind} that {library} knows; correct that type, or name its module in custom_imports'
    unknown = re.match(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", text)
    if unknown and is_from_there:  # a class that passes its arguments on to another one has a fault of its own
        name, argument = unknown.groups()
        fault = f'{name} takes no {argument}, which stands beside its type in the config'
        return f'{fault}; remove it there, or put _delete_=True beside a type that replaces another'
    part, name = frame.f_locals.get('cfg'), frame.f_code.co_name.strip('_').removeprefix('build_')
    if frame.f_code is build_from_cfg.__code__ and isinstance(part, Mapping):
        name = getattr(part.get('type'), '__name__', part.get('type'))
    elif name in ('init', 'from_cfg'):
        name = 'the runner'
    return f'{name} cannot be built as the config says ({type(error).__name__}: {text[:300]}); correct that there'


@contextmanager
def misfits_told() -> Iterator[None]:
    """Raise UserError where a part of a model does not fit what comes to it, by the numbers in its config.

    Those are shapes of which PyTorch complains, and whatever a library's part raises in the first step of a training.
    An error that comes of this package's own code is a defect and stays as it is.
    """
    try:
        yield
    except (*REFUSALS, RuntimeError, IndexError) as error:
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        packages = [frame.f_globals.get('__name__', '').partition('.')[0] for frame in frames]
        is_ours = next((name for name in packages[::-1] if name != 'torch'), '') == 'mlp_dense'
        is_shape = packages[-1] == 'torch' and SHAPES.search(str(error))
        is_first = packages[-1] in LIBRARIES and any(map(_is_first_step, frames))
        if is_ours or not (is_shape or is_first):
            raise
        modules = [frame.f_locals['self'] for frame in frames if isinstance(frame.f_locals.get('self'), nn.Module)]
        names = {id(module): name for module in modules[:1] for name, module in module.named_modules()}
        part = next((name for module in modules[::-1] if (name := names.get(id(module)))), '')
        if not part:
            raise
        text = ' '.join(str(error).split()) or traceback.extract_tb(error.__traceback__)[-1].line or ''
        key = f'model.{part.removeprefix("module.").partition(".")[0]}'
        raise UserError(
            f'model.{part.removeprefix("module.")} does not fit what comes to it ({type(error).__name__}: '
            f'{text[:300]}); correct the numbers of {key} in the config, or of what stands before it'
        ) from error


def _is_first_step(frame: FrameType) -> bool:
    """Tell whether a frame is that of a training loop which has not finished a step."""
    return isinstance(loop := frame.f_locals.get('self'), (EpochBasedTrainLoop, IterBasedTrainLoop)) and loop.iter == 0
