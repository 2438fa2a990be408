"""What every family promises, on random archs' options, images and memory layouts; --times gives the examples each."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from fuzzing import hold
from hypothesis import strategies as st

from families import FAMILIES
from mlp_dense.backbones._grid_pyramid import GridPyramidMLP
from mlp_dense.layers import TOKEN_GRIDS
from mlp_dense.ops import prefer

INFERENCES, TRAININGS = 24, 10  # of each family
# dtype of the model, whether autocast makes it bfloat16, and how far two ways to the same result may be apart.
KINDS = {
    'float32': (torch.float32, False, 2e-4),
    'float64': (torch.float64, False, 1e-9),
    'bfloat16': (torch.bfloat16, False, 0.15),
    'autocast': (torch.float32, True, 0.15),
}
LAYOUTS = ('contiguous', 'channels_last', 'every second pixel', 'cut out', 'turned', 'one for all', 'grey')
CONTENTS = {'noise': 1.0, 'bright': 255.0, 'dark': 0.0, 'faint': 1e-6}


@dataclass(frozen=True)
class Case:
    """A model and its images."""

    options: dict[str, Any]
    kind: str
    layout: str
    content: str
    batch: int
    size: tuple[int, int]
    seed: int


@st.composite
def cases(draw, family, fewest=0) -> Case:
    """A case of a family."""
    smallest = family.tiny.get('strides', (4,))[0]
    options: dict[str, Any] = {'in_channels': draw(st.sampled_from((3, 1, 2, 4, 7)))}
    options['fork_feat'] = draw(st.booleans())
    if options['fork_feat']:
        levels = draw(st.none() | st.sets(st.integers(0, 3), min_size=1).map(sorted))
        options['out_indices'] = levels
        count = 4 if levels is None else len(levels)
        strides = st.lists(st.sampled_from((4, 8, 16, 32, 3, 11)), min_size=count, max_size=count)
        options['out_strides'] = draw(st.none() | strides)
    else:
        options['num_classes'] = draw(st.integers(1, 5))
    options['with_cp'] = draw(st.booleans())
    options['drop_path_rate'] = draw(st.sampled_from((0.0, 0.4)))
    options['frozen_stages'] = draw(st.sampled_from((-1, 0, 2, 4)))
    options['norm_eval'] = draw(st.booleans())
    if 'img_size' in family.options:
        options['img_size'] = draw(st.sampled_from((64, 32, 40, 100)))
        options['token_grid'] = draw(st.sampled_from(TOKEN_GRIDS))
    if family.type == 'RaftMLP':
        options['released_dense'] = draw(st.booleans())
    if family.type == 'MLPMixer':
        options['gelu'] = draw(st.sampled_from(('erf', 'tanh')))
    kind = draw(st.sampled_from(list(KINDS)))
    # On CPUs PyTorch's bfloat16 convolutions read memory that nobody wrote where a map is one cell wide, as with
    # 320 to 512 channels, kernel 3, stride 2, on a map of 4 x 2 cells (like pytorch/pytorch#163347).
    narrowest = smallest if kind in ('float32', 'float64') else 2 * family.strides[-1]
    edges = st.integers(narrowest, 48 + narrowest) | st.integers(narrowest, 150) | st.just(64)
    return Case(
        options,
        kind,
        draw(st.sampled_from(LAYOUTS)),
        draw(st.sampled_from(list(CONTENTS))),
        draw(st.integers(fewest, 3)),
        (draw(edges), draw(edges)),
        draw(st.integers(0, 99)),
    )


def make_images(case: Case) -> torch.Tensor:
    """The images of a case, in its memory layout."""
    generator = torch.Generator().manual_seed(case.seed)
    (height, width), channels, dtype = case.size, case.options['in_channels'], KINDS[case.kind][0]

    def noise(*shape: int) -> torch.Tensor:
        return (torch.randn(shape, generator=generator) * CONTENTS[case.content]).to(dtype)

    if case.layout == 'every second pixel':
        return noise(case.batch, channels, 2 * height, 2 * width)[:, :, ::2, ::2]
    if case.layout == 'cut out':
        return noise(case.batch, channels + 1, height + 3, width + 2)[:, 1:, 2:-1, 1:-1]
    if case.layout == 'turned':
        return noise(case.batch, channels, width, height).mT
    if case.layout == 'one for all':
        return noise(1, channels, height, width).expand(case.batch, -1, -1, -1)
    if case.layout == 'grey':
        return noise(case.batch, 1, height, width).expand(-1, channels, -1, -1)
    images = noise(case.batch, channels, height, width)
    return images.contiguous(memory_format=torch.channels_last) if case.layout == 'channels_last' else images


def make_model(family, case: Case) -> torch.nn.Module:
    """The model of a case, with weights large enough that every path matters, and no norm at its neutral value."""
    torch.manual_seed(case.seed)
    model = family.build(**case.options)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.to(KINDS[case.kind][0])


def autocast(case: Case):
    return torch.autocast('cpu', torch.bfloat16) if KINDS[case.kind][1] else nullcontext()


def run(model, images) -> list[torch.Tensor]:
    """The levels of a model, or its logits."""
    outputs = model(images)
    return list(outputs) if isinstance(outputs, tuple) else [outputs]


def assert_same(case: Case, outputs, others) -> None:
    """Two ways to the same outputs differ by rounding only."""
    bound = KINDS[case.kind][2]
    for output, other in zip(outputs, others, strict=True):
        assert output.shape == other.shape
        difference, size = (output.double() - other.double()).norm(), other.double().norm()
        assert difference <= bound * size + 1e-12, f'{difference / size:.3g} of the output'


def cells(model, stride: int, edge: int) -> int:
    """The cells of a level along an edge of the image."""
    stem = model.stages[0].step
    if isinstance(model, GridPyramidMLP):
        return -(-edge // stride)
    return -(-((edge - 3) // stem + 1) * stem // stride)


def assert_promised(case: Case, model, images, outputs) -> None:
    """Shapes, memory format and numbers are what the backbone promises."""
    if not model.fork_feat:
        assert [output.shape for output in outputs] == [(case.batch, case.options['num_classes'])]
    else:
        assert len(outputs) == len(model.out_channels) == len(model.out_strides)
        last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
        form = torch.channels_last if last else torch.contiguous_format
        for output, channels, stride in zip(outputs, model.out_channels, model.out_strides, strict=True):
            of_own = case.options['out_strides'] is None
            size = tuple(cells(model, stride, edge) if of_own else -(-edge // stride) for edge in case.size)
            assert output.shape == (case.batch, channels, *size)
            assert output.is_contiguous(memory_format=form)
    assert all(output.isfinite().all() for output in outputs)


def completed(model, images) -> torch.Tensor:
    """The images with the zeros at the right and bottom that their last patch would read anyway."""
    stem = model.stages[0].step
    grid = isinstance(model, GridPyramidMLP)
    wanted = [-(-edge // stem) * stem if grid else (edge - 3) // stem * stem + 6 for edge in images.shape[2:]]
    return F.pad(images, (0, wanted[1] - images.shape[3], 0, wanted[0] - images.shape[2]))


def check_inference(family, case: Case) -> None:
    """Outputs are as promised, and depend neither on layout, implementation and batch neighbours nor on padding."""
    model, images = make_model(family, case).eval(), make_images(case)
    before = images.clone()
    with torch.no_grad(), autocast(case):
        outputs = run(model, images)
        assert_promised(case, model, images, outputs)
        assert torch.equal(images, before)
        with prefer('reference'):
            each = [run(model, image[None].contiguous()) for image in images]
            alone = [torch.cat(level) for level in zip(*each, strict=True)]
            assert_same(case, outputs if case.batch else [], alone)
        stretches = case.options.get('released_dense')
        if case.options.get('out_strides') is None and not stretches:
            assert_same(case, run(model, completed(model, images)), outputs)


def check_training(family, case: Case) -> None:
    """Every parameter that is not frozen gets a finite gradient, and so does the image."""
    model, images = make_model(family, case).train(), make_images(case).requires_grad_()
    with autocast(case):
        outputs = run(model, images)
    assert_promised(case, model, images, outputs)
    sum((output.float() * torch.randn(output.shape)).sum() for output in outputs).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        assert parameter.grad is None or parameter.grad.isfinite().all(), name
    assert images.grad is None or images.grad.isfinite().all()


@pytest.mark.parametrize('family', FAMILIES, ids=lambda family: family.type)
def test_outputs_are_as_promised(family, times):
    hold(lambda case: check_inference(family, case), times or INFERENCES, case=cases(family))


@pytest.mark.parametrize('family', FAMILIES, ids=lambda family: family.type)
def test_gradients_are_finite(family, times):
    hold(lambda case: check_training(family, case), times or TRAININGS, case=cases(family, fewest=2))
