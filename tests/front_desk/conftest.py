"""What the tests of the front desk share."""

import anyio
import pytest

from tests.front_desk.talk import Message
from tests.snapshots import early_answers


@pytest.fixture(scope="session")
def answers() -> Message:
    """A snapshot of this version of everything, as the command makes it."""
    return anyio.run(early_answers)
