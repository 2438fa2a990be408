"""Peak memory of a step on a CPU: each in a process of its own."""

import pytest
from failing import end, fail

from benchmarks import memory
from benchmarks.cases import ORIGINAL, PROJECT, How, OpCase
from mlp_dense.errors import UserError

MIB = 2**20


def test_memory_is_that_of_the_step():
    """The map, 64 channels on 256 x 256, is 16 MiB."""
    case = OpCase(1, 256, 256, 'auto')
    project, original = memory.peak_memory([(case, PROJECT), (case, ORIGINAL)], How(), {})
    assert project == pytest.approx(32 * MIB, abs=MIB)  # the shifted map and the result
    assert original > 80 * MIB  # offsets as large as two maps, columns, product and result
    (trained,) = memory.peak_memory([(case, PROJECT)], How(train=True), {})
    assert trained > 48 * MIB  # the result, its gradient and that of the input at the least


@pytest.mark.parametrize(('function', 'reason'), [(end, 'its process was killed'), (fail, 'not enough memory$')])
def test_a_failure_is_one_line(function, reason, monkeypatch):
    monkeypatch.setattr(memory, 'peak_here', function)
    with pytest.raises(UserError, match=f'measuring original at Cycle FC .* failed: {reason}'):
        memory.peak_memory([(OpCase(1, 8, 8, 'auto'), ORIGINAL)], How(), {})
