"""What the tests of sign-in share: doors in front of an app, and the network around them."""

from collections.abc import AsyncIterator, Iterator

import pytest
import respx

from tests.transports.sign_in.scene import Issuer, Scene, opened, trust
from tests.transports.sign_in.stand_in import Server


@pytest.fixture
def network() -> Iterator[respx.Router]:
    """All that this server can reach."""
    with respx.mock(assert_all_called=False) as router:
        yield router


@pytest.fixture
def keys(network: respx.Router) -> respx.Route:
    """The route of the issuer's keys."""
    return Issuer().serve(network)


@pytest.fixture
async def scene(keys: respx.Route) -> AsyncIterator[Scene]:
    """Doors for the tokens of one issuer, and for own ones."""
    async with opened(trust()) as scene:
        yield scene


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server whose tools say who calls them."""
    return Server(monkeypatch)
