"""A server of ours on a free port, inside the test process, with the echo application behind it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the table, the client and the application beside this file

from echo_app import EchoApp
from hosting import Hosted, hosted


@pytest.fixture(scope="module")
def echo() -> Iterator[Hosted]:
    with hosted(EchoApp()) as served:
        yield served
