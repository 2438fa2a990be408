"""The Triton kernels against the definition: on a CPU in Triton's interpreter, on a GPU as they are.

The interpreter is switched on by the environment. A kernel is bound to it at its first call with this environment, so
that one process can do both. Triton itself is imported while it is off, as its own functions are bound on import.
"""

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mlp_dense.ops import cycle_mix, cycle_mix_reference, prefer
from mlp_dense.ops.cycle_mix import why_not_triton

SHAPES = [  # (B, H, W, C_in) and C_out: every remainder of C, maps of more and of less than a tile, axes below a shift
    ((1, 9, 15, 71), 70),
    ((3, 4, 3, 4), 6),
    ((2, 2, 5, 6), 1),
    ((1, 1, 6, 9), 33),
    ((2, 12, 1, 5), 4),
    ((1, 3, 4, 1), 3),
    ((0, 3, 2, 5), 6),
    ((2, 0, 3, 4), 5),
]
DTYPES = pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)


@pytest.fixture
def triton():
    return pytest.importorskip('triton', reason='Triton is not installed')


@pytest.fixture(params=['interpreter', 'cuda'])
def place(request, triton, monkeypatch) -> str:
    """Where tensors live; on a CPU Triton's interpreter is on."""
    if request.param == 'cuda':
        if not torch.cuda.is_available():
            pytest.skip('no GPU')
        monkeypatch.delenv('TRITON_INTERPRET', raising=False)
        return 'cuda'
    monkeypatch.setenv('TRITON_INTERPRET', '1')
    return 'cpu'


def draw(shape, out, place='cpu', dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    sizes = [shape, (shape[0], 3, out, shape[3]), (shape[0], out), (*shape[:3], out)]
    *inputs, grad = (torch.randn(size, generator=generator).to(place, dtype) for size in sizes)
    return [tensor.requires_grad_() for tensor in inputs], grad


def values_and_gradients(function, inputs, grad, length=3):
    """The result and the gradients of x, weight and bias, in float64 on the CPU."""
    result = function(*inputs, length)
    gradients = torch.autograd.grad(result, inputs, grad)
    assert {tensor.dtype for tensor in (result, *gradients)} == {grad.dtype}
    return [tensor.detach().cpu().double() for tensor in (result, *gradients)]


def by_triton(x, weight, bias, length):
    return cycle_mix(x, weight, bias, length, 'triton')


def reference(x, weight, bias, length):
    """The definition; of an empty batch too it has a gradient."""
    return cycle_mix_reference(x, weight, bias, length) if len(x) else cycle_mix(x, weight, bias, length, 'native')


def check_error(shape, out, place, dtype, length):
    inputs, grad = draw(shape, out, place, dtype)
    exact = values_and_gradients(
        reference, [tensor.detach().cpu().double().requires_grad_() for tensor in inputs], grad.cpu().double(), length
    )
    honest = values_and_gradients(reference, inputs, grad, length)
    ours = values_and_gradients(by_triton, inputs, grad, length)
    for name, ours_one, honest_one, exact_one in zip(
        ('value', 'x', 'weight', 'bias'), ours, honest, exact, strict=True
    ):
        assert ours_one.shape == exact_one.shape, name
        assert (ours_one - exact_one).norm() <= 2 * (honest_one - exact_one).norm(), name


@pytest.mark.parametrize(('shape', 'out'), SHAPES, ids=str)
@pytest.mark.parametrize('length', [1, 3, 5, 7])
@DTYPES
def test_error_is_at_most_twice_that_of_the_definition(shape, out, place, dtype, length):
    check_error(shape, out, place, dtype, length)


def test_more_channels_of_one_shift_than_a_tile(place):
    check_error((1, 3, 5, 200), 40, place, torch.float32, 3)


def test_any_strides(place):
    (x, weight, bias), grad = draw((2, 6, 10, 7), 5, place)
    expected = values_and_gradients(reference, (x, weight, bias), grad)

    def copied(tensor, order):
        """Equal values, with the strides of another order of axes."""
        back = [order.index(axis) for axis in range(4)]
        return tensor.detach().permute(order).contiguous().permute(back)

    strange = copied(x, (0, 3, 1, 2)).requires_grad_(), copied(weight, (1, 3, 2, 0)).requires_grad_(), bias
    assert not strange[0].is_contiguous() and not strange[1].is_contiguous()
    ours = values_and_gradients(by_triton, strange, copied(grad, (3, 2, 1, 0)))
    for ours_one, expected_one in zip(ours, expected, strict=True):
        torch.testing.assert_close(ours_one, expected_one, rtol=1e-4, atol=1e-4)
    cut = x.detach()[:, ::2, 1::3]
    torch.testing.assert_close(
        by_triton(cut, weight, bias, 3), cycle_mix_reference(cut, weight, bias, 3), rtol=1e-4, atol=1e-4
    )
    spread = torch.autograd.grad(by_triton(x, weight, bias, 3).sum(), x)  # a gradient whose strides are zero
    wanted = torch.autograd.grad(cycle_mix_reference(x, weight, bias, 3).sum(), x)
    torch.testing.assert_close(spread, wanted, rtol=1e-4, atol=1e-4)


def test_nothing_but_the_input_and_the_weights_is_kept(place):
    (x, weight, bias), _ = draw((2, 6, 5, 8), 8, place)
    kept = []

    def keep(tensor):
        kept.append(tensor.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        by_triton(x, weight, bias, 3)
    assert sorted(kept) == sorted([x.data_ptr(), weight.data_ptr()])


def test_autocast_multiplies_in_its_dtype_and_gives_gradients_in_that_of_the_weights(place):
    inputs, _ = draw((2, 6, 5, 8), 8, place)
    with torch.autocast(place, torch.bfloat16):
        result = by_triton(*inputs, 3)
    assert result.dtype == torch.bfloat16
    result.float().square().sum().backward()
    assert {tensor.grad.dtype for tensor in inputs} == {torch.float32}
    torch.testing.assert_close(result.float(), cycle_mix_reference(*inputs), rtol=0.05, atol=0.1)


def test_only_who_asks_gets_it(place, monkeypatch):
    calls = []

    def called(*arguments):
        calls.append(arguments)
        return cycle_mix_reference(*arguments)

    monkeypatch.setattr(import_module('mlp_dense.ops.cycle_mix_triton'), 'cycle_mix_triton', called)
    (x, weight, bias), _ = draw((1, 3, 4, 5), 6, place)
    cycle_mix(x, weight, bias)
    assert not calls
    with prefer('triton'):
        cycle_mix(x, weight, bias)
        assert len(calls) == 1
        cycle_mix(x.double(), weight.double(), bias.double())  # which it cannot do
        torch.compile(cycle_mix, backend='eager', fullgraph=True)(x, weight, bias)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        (dict(dtype=torch.float64), 'it multiplies in float32, bfloat16 or float16, not in torch.float64'),
        (dict(interpret='0'), 'it needs a GPU, or a CPU and TRITON_INTERPRET=1, and the input is on cpu'),
        (dict(place='meta'), 'it needs a GPU, or a CPU and TRITON_INTERPRET=1, and the input is on meta'),
    ],
)
def test_why_it_cannot_run_is_one_line(triton, monkeypatch, change, reason):
    monkeypatch.setenv('TRITON_INTERPRET', change.pop('interpret', '1'))
    (x, weight, bias), _ = draw((1, 3, 4, 5), 6, **change)
    with pytest.raises(RuntimeError) as error:
        cycle_mix(x, weight, bias, backend='triton')
    assert str(error.value) == f"backend 'triton' cannot run here: {reason}"


def test_old_gpus_are_told(triton, monkeypatch):
    on_gpu = SimpleNamespace(device=torch.device('cuda', 0), dtype=torch.float32)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (7, 5))
    assert why_not_triton(on_gpu) == 'it needs compute capability 8.0, this GPU has (7, 5)'
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (8, 0))
    assert why_not_triton(on_gpu) == ''


WITHOUT_TRITON = """
import sys
from importlib import util
from types import ModuleType

package = sys.modules['mlp_dense'] = ModuleType('mlp_dense')  # what operators need is PyTorch, none of the package
package.__path__ = ['mlp_dense']

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] == 'triton':
            raise ModuleNotFoundError(f'{name} is not installed', name=name)

find_spec = util.find_spec
util.find_spec = lambda name, package=None: None if name == 'triton' else find_spec(name, package)
sys.meta_path.insert(0, Blocked())
import torch
from mlp_dense.ops import cycle_mix, prefer
assert 'mlp_dense.ops.cycle_mix_triton' not in sys.modules
given = torch.ones(1, 2, 3, 4), torch.ones(1, 3, 5, 4), torch.ones(1, 5)
with prefer('triton'):
    assert cycle_mix(*given).shape == (1, 2, 3, 5)
cycle_mix(*given, backend='triton')
"""


def test_all_but_this_backend_works_without_triton():
    command = [sys.executable, '-W', 'ignore', '-c', WITHOUT_TRITON]
    result = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    last = result.stderr.strip().splitlines()[-1]
    assert last == "RuntimeError: backend 'triton' cannot run here: Triton is not installed"


@pytest.mark.parametrize('kernel', ['_mix', '_mix_back'])
@pytest.mark.parametrize(('capability', 'dtype'), [(80, 'bf16'), (90, 'bf16'), (90, 'fp32')], ids=str)
def test_kernels_compile_for_gpus(triton, monkeypatch, tmp_path, kernel, capability, dtype):
    """The interpreter takes more than the compiler does, so the compiler must see the kernels too; it needs no GPU."""
    from triton.backends.compiler import GPUTarget

    monkeypatch.delenv('TRITON_INTERPRET', raising=False)
    monkeypatch.setenv('TRITON_CACHE_DIR', str(tmp_path))
    module = import_module('mlp_dense.ops.cycle_mix_triton')
    function = triton.jit(getattr(module, kernel))
    # Without tensor cores a tile of full size is some thousand instructions, which take long to compile.
    tile = module._tile(torch.empty(1, 16, 16, 1)) if dtype == 'bf16' else module.Tile(16, 16, 16, 4)
    constants = dict(length=3, cells=tile.cells, made=tile.made, summed=tile.summed)
    sizes = ('height', 'width', 'channels', 'outputs', 'tiles')
    types = dict.fromkeys(function.arg_names, f'*{dtype}') | dict.fromkeys(sizes, 'i32')
    source = triton.compiler.ASTSource(function, types | dict.fromkeys(constants, 'constexpr'), constants)
    target = GPUTarget('cuda', capability, 32)
    code = triton.compile(source, target=target, options=dict(num_warps=tile.warps)).asm['ptx']
    assert {'bf16': 'mma', 'fp32': 'fma.rn.f32'}[dtype] in code  # tensor cores, but for true float32
    assert 'tf32' not in code
