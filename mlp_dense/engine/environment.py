"""What ``python -m mlp_dense env`` prints: versions, and small runs that show whether operators and GPU work."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from mmengine.utils.dl_utils import collect_env
from torch import Tensor

from mlp_dense.ops import cycle_fc, cycle_fc_reference, cycle_mix, cycle_mix_reference, prefer

REQUIRED = ('torch', 'torchvision', 'timm', 'mmengine', 'mlp_dense')
OPTIONAL = {'mmcv': 'detection and segmentation', 'mmdet': 'detection', 'mmseg': 'segmentation'}
TOOLS = ('CUDA_HOME', 'NVCC', 'GCC', 'OpenCV')
BACKENDS = {'cycle_fc': ('native', 'reference'), 'cycle_mix': ('native', 'reference')}
"""Implementations of our operators."""
TOLERANCE = 1e-4  # relative, in float32


class Check(NamedTuple):
    """One line of the report."""

    state: str
    """``'ok'``, ``'none'`` for what is not there and need not be, or ``'fails'``."""
    what: str
    detail: str


def versions() -> Iterator[Check]:
    """Python's and every package's version. A package that is there but cannot be imported fails."""
    yield Check('ok', 'Python', f'{platform.python_version()} on {platform.system()} {platform.machine()}')
    for name in (*REQUIRED, *OPTIONAL):
        if find_spec(name) is None:
            state = 'none' if name in OPTIONAL else 'fails'
            yield Check(state, name, f'not installed; needed for {OPTIONAL.get(name, "everything")}')
        else:
            yield attempt(name, partial(version_of, name))


def version_of(package: str) -> str:
    """As the package itself tells it; mmdet and mmseg refuse to be imported beside an mmcv that does not fit."""
    return str(import_module(package).__version__)


def checks() -> Iterator[Check]:
    """Operators and models, run on every device that there is."""
    yield gpu()
    for device in ('cpu', 'cuda') if torch.cuda.is_available() else ('cpu',):
        yield attempt(f'torchvision nms on {device}', partial(torchvision_nms, device))
        if find_spec('mmcv') is not None:
            yield attempt(f'mmcv nms on {device}', partial(mmcv_nms, device))
            yield attempt(f'mmcv deform_conv2d on {device}', partial(mmcv_deform, device))
        for name, run in (('cycle_fc', cycle_fc_on), ('cycle_mix', cycle_mix_on)):
            for backend in BACKENDS[name]:
                yield attempt(f'{name} {backend} on {device}', partial(run, device, backend))
        yield attempt(f'backbone on {device}', partial(backbone, device))
    for library in ('mmdet', 'mmseg'):
        if find_spec(library) is not None:
            yield attempt(f'CycleMLP in {library}', partial(registered, library))


def attempt(what: str, run: Callable[[], str]) -> Check:
    """What ``run`` says, or how it fails, whatever it raises: telling that is the purpose here."""
    try:
        return Check('ok', what, run())
    except Exception as error:
        told = f'{type(error).__name__}: {str(error).strip()}'.splitlines()[0]
        not_here = isinstance(error, RuntimeError) and 'cannot run here' in told  # mlp_dense.ops.choose
        return Check('none' if not_here else 'fails', what, told)


def gpu() -> Check:
    """The GPUs that PyTorch sees, or why it sees none."""
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return Check('ok', 'GPU', f'{", ".join(names)}; CUDA {torch.version.cuda}')
    built = 'no GPU or no driver is visible' if torch.version.cuda else 'this PyTorch is built for the CPU only'
    return Check('none', 'GPU', f'{built}; everything runs on the CPU')


def torchvision_nms(device: str) -> str:
    """Raises unless torchvision's compiled NMS keeps the right boxes."""
    boxes, scores = _boxes(device)
    return _compare(import_module('torchvision.ops').nms(boxes, scores, 0.5), torch.tensor([0, 2], device=device))


def mmcv_nms(device: str) -> str:
    """Raises unless mmcv's compiled NMS keeps the right boxes."""
    from mmcv.ops import nms

    boxes, scores = _boxes(device)
    return _compare(nms(boxes, scores, iou_threshold=0.5)[1], torch.tensor([0, 2], device=device))


def mmcv_deform(device: str) -> str:
    """Raises unless mmcv's deformable convolution without offsets is a convolution."""
    from mmcv.ops import deform_conv2d

    x, weight = torch.randn(1, 4, 7, 9, device=device), torch.randn(5, 4, 3, 3, device=device)
    offset = torch.zeros(1, 18, 7, 9, device=device)
    return _compare(deform_conv2d(x, offset, weight, 1, 1), F.conv2d(x.double(), weight.double(), padding=1))


def cycle_fc_on(device: str, backend: str) -> str:
    """Raises unless Cycle FC by one implementation agrees with its definition in float64."""
    x, weight = torch.randn(2, 5, 7, 12, device=device), torch.randn(8, 12, device=device)
    for kernel_size in ((1, 3), (3, 1)):
        expected = cycle_fc_reference(x.double(), weight.double(), None, kernel_size)
        _compare(cycle_fc(x, weight, None, kernel_size, backend), expected)
    return 'agrees with the definition'


def cycle_mix_on(device: str, backend: str) -> str:
    """Raises unless CycleMLP's mixer by one implementation agrees with its definition in float64."""
    x, weight = torch.randn(2, 5, 7, 12, device=device), torch.randn(2, 3, 8, 12, device=device)
    bias = torch.randn(2, 8, device=device)
    _compare(
        cycle_mix(x, weight, bias, backend=backend), cycle_mix_reference(x.double(), weight.double(), bias.double())
    )
    return 'agrees with the definition'


def backbone(device: str) -> str:
    """Raises unless a small CycleMLP gives the same with the fastest operators as with the definitions."""
    arch = dict(dims=(16, 24, 32, 40), depths=(1, 1, 1, 1), mlp_ratios=(2, 2, 2, 2))
    model = MODELS.build(dict(type='CycleMLP', arch=arch, fork_feat=True)).to(device).eval()
    image = torch.randn(1, 3, 50, 70, device=device)
    with torch.no_grad():
        fast = model(image)
        with prefer('reference'):
            expected = model(image)
    for level, definition in zip(fast, expected, strict=True):
        _compare(level, definition)
    return 'fast operators agree with the definitions'


def registered(library: str) -> str:
    """Raises unless mmdet or mmseg finds our backbones and builds its own models."""
    import_module(f'{library}.models')
    found = import_module(f'{library}.registry').MODELS.get('CycleMLP')
    if found is None:
        raise LookupError("type='CycleMLP' is not found")
    return 'found by its type'


def _boxes(device: str) -> tuple[Tensor, Tensor]:
    """The second box overlaps the first one; the third stands alone."""
    boxes = torch.tensor([[0, 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30]], dtype=torch.float32, device=device)
    return boxes, torch.tensor([0.9, 0.8, 0.7], device=device)


def _compare(result: Tensor, expected: Tensor) -> str:
    if result.shape != expected.shape:
        raise ArithmeticError(f'wrong result: shape {tuple(result.shape)}, expected {tuple(expected.shape)}')
    error = (result.double() - expected.double()).norm() / expected.double().norm()
    if not error <= TOLERANCE:  # NaN fails, too
        raise ArithmeticError(f'wrong result: relative error {error:.1e}')
    return 'gives the right result'


def tools() -> Iterator[Check]:
    """Compilers and CUDA, as mmengine finds them."""
    found = collect_env()
    yield from (Check('', name, str(found[name])) for name in TOOLS if name in found)


def report() -> int:
    """Print everything. 0 if what is installed works, 1 if anything fails."""
    found = _print('Versions', versions())
    _print('Tools', tools())
    if all(check.state != 'fails' for check in found):
        found += _print('Checks', checks())
    broken = [check.what for check in found if check.state == 'fails']
    if broken:
        print(f'\nNot usable: {", ".join(broken)}. `make setup` installs a set that was tested.')
        return 1
    lacking = [name for name in ('mmdet', 'mmseg') if find_spec(name) is None]
    print(f'\nUsable{", but without " + " and ".join(lacking) if lacking else ""}.')
    return 0


def _print(title: str, lines: Iterable[Check]) -> list[Check]:
    """Print each line as it comes, since importing and running take seconds; all of them."""
    print(title)
    printed = []
    for check in lines:
        print(f'  {check.state:6}{check.what:28}{check.detail}', flush=True)
        printed.append(check)
    return printed
