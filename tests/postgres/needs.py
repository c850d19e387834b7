"""What some tests need and a machine may lack: they say so and are skipped, except in CI."""

import os
from typing import NoReturn

import pytest


def missing(name: str, what: str) -> NoReturn:
    """Skip the test, or let it fail where TESTS_NEED contains that name.

    Args:
        what: what is missing, and how to get it.
    """
    if name in os.environ.get("TESTS_NEED", "").split():
        pytest.fail(f"missing here, and TESTS_NEED names it: {what}")
    pytest.skip(f"missing here: {what}")
