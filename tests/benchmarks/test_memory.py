"""Peak memory of a step on a CPU: each in a process of its own."""

import pytest

from benchmarks import memory
from benchmarks.cases import FLOOR, ORIGINAL, PROJECT, How
from benchmarks.op_case import OpCase
from mlp_dense.errors import UserError


def test_memory_is_that_of_the_step_and_a_failure_is_told(capfd):
    """64 channels on 256 x 256: the map is 16 MiB."""
    case, mib = OpCase(64, 256, 256, 1), 2**20
    jobs = [(case, FLOOR, How()), (OpCase(64, 8, 8, 1, (2, 2)), PROJECT, How())]
    jobs += [(case, ORIGINAL, How()), (case, FLOOR, How(train=True))]
    floor, broken, original, trained = memory.ask(jobs)
    assert floor['bytes'] == pytest.approx(16 * mib, abs=mib)  # the result
    assert trained['bytes'] == pytest.approx(48 * mib, abs=mib)  # the result, its gradient and that of the input
    assert original['bytes'] > 80 * mib  # offsets as large as two maps, columns, product and result
    assert 'kernel_size must be' in broken['failed']
    assert 'Traceback' in capfd.readouterr().err


def test_the_tool_reports_a_failure_in_one_line(monkeypatch):
    monkeypatch.setattr(memory, 'ask', lambda jobs: [{'bytes': 1}, {'failed': 'no memory'}])
    case = OpCase(4, 8, 8, 1)
    with pytest.raises(UserError, match=r'measuring original at Cycle FC .* failed: no memory'):
        memory.peak_memory([(case, PROJECT), (case, ORIGINAL)], How(), {})
