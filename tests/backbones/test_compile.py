"""torch.compile: one graph without breaks for every backbone, open sizes without a graph for each, right numbers."""

import pytest
import torch

from families import FAMILIES

EACH = pytest.mark.parametrize('family', FAMILIES, ids=lambda family: family.type)


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def build(family):
    """Two stages of one block, so that compiling takes seconds."""
    model = family.build(fork_feat=True, out_indices=(1,), arch={**family.tiny, 'depths': (1, 1, 1, 1)})
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


@EACH
def test_one_graph_with_the_same_gradients(family):
    model, image = build(family), torch.randn(2, 3, 80, 100)
    compiled = torch.compile(model, backend='aot_eager', fullgraph=True)
    direction = [torch.randn_like(level) for level in model(image)]
    gradients = []
    for run in (model, compiled):
        model.zero_grad()
        sum((level * one).sum() for level, one in zip(run(image), direction, strict=True)).backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3)


@EACH
def test_other_sizes_need_no_graphs_of_their_own(family):
    model = build(family).eval()
    graphs = []

    def count(graph, _):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(model, backend=count, fullgraph=True, dynamic=True)
    with torch.no_grad():
        for size in ((96, 112), (160, 136), (111, 95)):
            image = torch.randn(1, 3, *size)
            torch.testing.assert_close(compiled(image), model(image), rtol=1e-3, atol=1e-3)
    assert len(graphs) <= 3


@EACH
def test_inductor_gives_the_same_levels(family):
    model, image = build(family).eval(), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(model, fullgraph=True)(image), model(image), rtol=1e-3, atol=1e-3)
