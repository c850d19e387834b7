"""What the tests of `wan-mcp check` ask for."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.check.test_check import Case


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Case":
    """A user with a good key and no hosts."""
    from tests.cli.check.test_check import Case

    monkeypatch.chdir(tmp_path)
    for name in ("HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return Case(tmp_path)
