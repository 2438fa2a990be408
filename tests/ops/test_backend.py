"""The rule by which an implementation is chosen."""

import pytest

from mlp_dense.ops.backend import choose


def test_auto_takes_the_first_that_can_run():
    assert choose('auto', fast='no device', plain='') == 'plain'
    assert choose('auto', fast='', plain='') == 'fast'


def test_a_name_never_falls_back():
    assert choose('plain', fast='', plain='') == 'plain'
    with pytest.raises(RuntimeError, match="'fast' cannot run here: no device"):
        choose('fast', fast='no device', plain='')
