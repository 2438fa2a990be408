"""What ``python -m mlp_dense env`` prints: the machine, versions, and small runs that show whether all of it works."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib import import_module
from importlib.util import find_spec

import torch
from mmengine.registry import MODELS
from mmengine.utils.dl_utils import collect_env

from mlp_dense.datasets.checks.settings import LIBRARIES
from mlp_dense.ops import prefer

REQUIRED = ('torch', 'torchvision', 'timm', 'mmengine', 'mlp_dense')
OPTIONAL = {
    'mmcv': 'all of the following',
    'mmdet': 'detection',
    'mmseg': 'segmentation',
    'mmpretrain': 'classification',
}
MACHINE = ('sys.platform', 'Python', 'GCC', 'CUDA', 'NVCC', 'GPU')
"""Beginnings of the names that are shown of mmengine's report."""

Check = tuple[str, Callable[[], str]]
"""A name, and a function that returns what is found or raises what is wrong."""


def versions() -> Iterator[Check]:
    """Yield a check of every package that is installed or has to be."""
    for name in (*REQUIRED, *OPTIONAL):
        if name in REQUIRED or find_spec(name) is not None:
            yield name, partial(version_of, name)


def version_of(package: str) -> str:
    """Import a package and return its version; mmdet, mmseg and mmpretrain refuse an mmcv that does not fit."""
    return str(import_module(package).__version__)


def probes() -> Iterator[Check]:
    """Yield small runs of mmcv's operators and of a backbone on every device, and of the libraries' registries."""
    for device in ('cpu', 'cuda') if torch.cuda.is_available() else ('cpu',):
        if find_spec('mmcv') is not None:
            yield f'mmcv nms on {device}', partial(mmcv_nms, device)
        yield f'CycleMLP on {device}', partial(backbone, device)
    for library in LIBRARIES:
        if find_spec(library) is not None:
            yield f'CycleMLP in {library}', partial(registered, library)


def mmcv_nms(device: str) -> str:
    """Run mmcv's compiled NMS on three boxes, of which the second overlaps the first, and raise if it is wrong."""
    from mmcv.ops import nms

    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30]], device=device)
    kept = nms(boxes, torch.tensor([0.9, 0.8, 0.7], device=device), iou_threshold=0.5)[1].tolist()
    if kept != [0, 2]:
        raise ArithmeticError(f'wrong result: boxes {kept} are kept, not 0 and 2')
    return 'right'


def backbone(device: str) -> str:
    """Run a small CycleMLP by the fastest operators and by their definitions, and raise if the results differ."""
    arch = dict(dims=(16, 24, 32, 40), depths=(1, 1, 1, 1), mlp_ratios=(2, 2, 2, 2))
    model = MODELS.build(dict(type='CycleMLP', arch=arch, fork_feat=True)).to(device).eval()
    image = torch.randn(1, 3, 50, 70, device=device)
    with torch.no_grad():
        fast = model(image)
        with prefer('reference'):
            torch.testing.assert_close(fast, model(image), rtol=1e-3, atol=1e-3)
    return 'fast operators agree with their definitions'


def registered(library: str) -> str:
    """Import the models of a library, and raise if they do not find the backbones."""
    import_module(f'{library}.models')
    if import_module(f'{library}.registry').MODELS.get('CycleMLP') is None:
        raise LookupError("type='CycleMLP' is not found")
    return 'found by its type'


def report() -> int:
    """Print everything and return the exit code: 0 if what is installed works, 1 if anything fails."""
    for name, value in collect_env().items():
        if name.startswith(MACHINE):
            print(f'        {name:24}{value}')
    failed = _print(versions()) or _print(probes())
    if failed:
        print(f'\nNot usable: {", ".join(failed)}. `make setup` installs a set that was tested.')
        return 1
    lacking = [f'{name} ({purpose})' for name, purpose in OPTIONAL.items() if find_spec(name) is None]
    print(f'\nUsable{", but without " + ", ".join(lacking) if lacking else ""}.')
    return 0


def _print(checks: Iterable[Check]) -> list[str]:
    """Print what every check says, one by one since they take seconds, and return the names of those that fail."""
    failed = []
    for name, check in checks:
        try:
            state, detail = 'ok', check()
        except Exception as error:  # whatever it is: to tell it is the purpose
            state, detail = 'fails', f'{type(error).__name__}: {" ".join(str(error).split())}'
            failed.append(name)
        print(f'  {state:6}{name:24}{detail}', flush=True)
    return failed
