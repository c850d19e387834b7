"""Packages that tests need beside the extra `test`: where CI installs them, none is missing."""

import re
from importlib import import_module
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
        import_module(name)
    except ImportError:
        missing("packages", f"the package {name}")
