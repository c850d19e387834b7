"""What the tests of the pages share."""

from collections.abc import Iterator

import pytest
import respx


@pytest.fixture
def network() -> Iterator[respx.Router]:
    """All that this server can reach."""
    with respx.mock(assert_all_called=False) as router:
        yield router
