"""Export of a backbone, a segmentor or a detector to ONNX or torch.export, and the check of what was written.

Only standard ONNX operators occur, and no custom domain.
"""

from __future__ import annotations

import io
import json
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from mlp_dense import __version__
from mlp_dense.errors import UserError
from mlp_dense.export.exportable import Exportable
from mlp_dense.export.onnx_rewrites import REWRITES

Size = tuple[int, int]
"""The height and width in pixels."""

TOLERANCE = 1e-4
"""The largest relative error (Euclidean norm, per output) between an exported model and PyTorch."""
ONNX_LIMIT = 2_000_000_000
"""The most bytes of a file that ONNX can read."""
AXES = {0: 'batch', 2: 'height', 3: 'width'}
"""The axes of an image whose lengths a dynamic file leaves open."""


def trace(part: Exportable, size: Size, dynamic: bool) -> ExportedProgram:
    """Trace the program for one image of this size, or with ``dynamic`` for any batch, height and width.

    Raises:
        UserError: the model does not take this size, or cannot be traced for sizes that are not known.
    """
    if dynamic and min(size) < part.smallest:
        raise UserError(f'--size {size[1]}x{size[0]}: with --dynamic, sides from {part.smallest} pixels')
    try:
        with torch.no_grad():
            part.module(torch.zeros(1, part.channels, *size))
    except ValueError as error:
        raise UserError(f'--size {size[1]}x{size[0]}: {error}') from error
    if not dynamic:
        return torch.export.export(part.module, (torch.zeros(1, part.channels, *size),))
    # Its values are not computed, but sizes that are special (one window, whole windows) would be taken as given.
    sample = torch.zeros(2, part.channels, 2 * part.trained + 43, 3 * part.trained + 51)
    shapes = (dict.fromkeys(AXES, Dim.DYNAMIC),)
    try:
        program = torch.export.export(
            part.module, (sample,), dynamic_shapes=shapes, prefer_deferred_runtime_asserts_over_guards=True
        )
    except Exception as error:  # torch.export raises half a dozen types
        reason = str(error).strip().partition('\n')[0] or type(error).__name__
        raise UserError(
            f'this model cannot be exported with dynamic sizes ({reason}); leave out --dynamic and name every size '
            f'that you need with --size'
        ) from error
    _drop_assertions(program)
    return program


def _drop_assertions(program: ExportedProgram) -> None:
    """Remove, in place, what the sample has and torch could not prove for all sizes, such as that a batch is not 1.

    ONNX has no assertions anyway. Our layers take the same path for all sizes that are not known; see :func:`verify`.
    """
    for node in list(program.graph.nodes):
        if node.target is torch.ops.aten._assert_scalar.default:
            program.graph.erase_node(node)
    program.graph.eliminate_dead_code()
    program.graph_module.recompile()


def to_torch_export(program: ExportedProgram, part: Exportable, sizes: str) -> bytes:
    """Return the content of a ``.pt2`` file; the notes are its extra file ``metadata.json``."""
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={'metadata.json': json.dumps(_metadata(part, sizes))})
    return buffer.getvalue()


def to_onnx(program: ExportedProgram, part: Exportable, sizes: str) -> bytes:
    """Return the content of an ``.onnx`` file with the notes as metadata, in JSON where they are not text.

    Raises:
        UserError: packages are missing, or the file would be above ONNX's limit of 2 GB.
    """
    import onnx

    if sum(value.nbytes for value in program.state_dict.values()) > ONNX_LIMIT:
        raise UserError('an ONNX file holds at most 2 GB, and the weights alone have more; use --format torch-export')
    shape = next(node for node in program.graph.nodes if node.name == 'image').meta['val'].shape
    used = {node.target for node in program.graph.nodes}
    rewrites = {operator: rewrite for operator, rewrite in REWRITES.items() if operator in used}
    written = torch.onnx.export(
        program.run_decompositions(rewrites) if rewrites else program,
        input_names=['image'],
        output_names=part.outputs,
        dynamic_shapes=({axis: name for axis, name in AXES.items() if not isinstance(shape[axis], int)},),
        custom_translation_table={operator.floordiv: _floor_division},
        dynamo=True,
        verbose=False,
    )
    assert written is not None
    proto = written.model_proto
    notes = _metadata(part, sizes).items()
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in notes}
    onnx.helper.set_model_props(proto, texts)
    return proto.SerializeToString()


def _floor_division(left: Any, right: Any) -> Any:
    """Divide integers and round down, as Python does it for sizes; PyTorch's own translation rounds to zero."""
    from onnxscript import opset18 as op

    return op.Div(op.Sub(left, op.Mod(left, right)), right)


def check_packages(names: Sequence[str]) -> None:
    """Raise UserError for packages that are not installed."""
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise UserError(f'--format onnx needs {", ".join(missing)}; install with: pip install {" ".join(missing)}')


def _metadata(part: Exportable, sizes: str) -> dict[str, Any]:
    return {'producer': f'mlp_dense {__version__}', 'sizes': sizes, 'outputs': part.outputs, **part.notes}


def verify(data: bytes, part: Exportable, shapes: Sequence[tuple[int, ...]]) -> Iterator[float]:
    """Run an ``.onnx`` file in ONNX Runtime, or a ``.pt2`` file, beside PyTorch on random images.

    Args:
        data: the file's content.
        shapes: ``(batch, channels, height, width)`` of each image.

    Yields:
        The largest relative error of an output, by Euclidean norm, for each shape.
    """
    run = _onnx_runner(data) if data[:2] != b'PK' else torch.export.load(io.BytesIO(data)).module()
    for shape in shapes:
        image = torch.randn(shape)
        with torch.no_grad():
            outputs, expected = run(image), part.module(image)
        if [tuple(a.shape) for a in outputs] != [tuple(b.shape) for b in expected]:
            yield math.inf
        else:
            yield max(float((a - b).norm() / b.norm().clamp(min=1e-12)) for a, b in zip(outputs, expected, strict=True))


def _onnx_runner(data: bytes) -> Callable[[Tensor], list[Tensor]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=['CPUExecutionProvider'])
    return lambda image: [torch.from_numpy(array) for array in session.run(None, {'image': image.numpy()})]
