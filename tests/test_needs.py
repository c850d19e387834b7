"""Packages that tests need beside the extra `test`: where CI installs them, none is missing."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.postgres.needs import missing

SYSTEM = {"resource"}
"""What is a part of Python, on some systems."""
SKIPPED = re.compile(r"importorskip\(\s*\"([\w.]+)\"")
NEEDED = {
    name
    for path in Path(__file__).parent.rglob("*.py")
    for name in SKIPPED.findall(path.read_text("utf-8"))
}


@pytest.mark.parametrize("name", sorted(NEEDED - SYSTEM))
def test_package_that_tests_are_skipped_without_is_here(name: str) -> None:
    """Otherwise they would be skipped unnoticed (ours)."""
    try:
        is_here = find_spec(name) is not None
    except ModuleNotFoundError:  # not even the package that it is a part of
        is_here = False
    if not is_here:
        missing("packages", f"the package {name}")
