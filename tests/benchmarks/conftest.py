"""The benchmarks' own server would lack the libraries, and all later tools of this process would import them anew."""

import pytest
from runs import server


@pytest.fixture(autouse=True, scope='session')
def started_server() -> None:
    server()
