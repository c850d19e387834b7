"""The keys of an issuer: when it is asked, and what counts while it does not answer."""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
import respx

from tests.transports.sign_in.scene import Clock, Issuer, Scene, key_of
from wan_mcp.tenants.caller import IdentityUnknown
from wan_mcp.transports.sign_in.key_sets import (
    FRESH_SECONDS,
    MAX_KEYS,
    PAUSE_SECONDS,
    USABLE_SECONDS,
    KeySet,
)
from wan_mcp.transports.sign_in.refusals import WrongToken
from wan_mcp.web.documents import Document, Unavailable

pytestmark = pytest.mark.anyio

ONE, TWO = ("RS256", key_of("RS256")), ("RS256", key_of("RS256", 2))


class Server:
    """The issuer's server.

    Attributes:
        document: what it shows; None while it cannot be reached.
        open: whether it answers at once.
        asked: how often it was asked.
    """

    def __init__(self, document: object = None) -> None:
        self.document = document
        self.open = anyio.Event()
        self.open.set()
        self.asked = 0

    async def fetch(self) -> Document:
        self.asked += 1
        await self.open.wait()
        if self.document is None:
            raise Unavailable("cannot be reached")
        shown: Any = self.document
        return dict(shown)

    def shut(self) -> None:
        """Answer nobody from now on."""
        self.open = anyio.Event()


Use = Callable[[KeySet, Server, Clock], Awaitable[None]]


async def with_keys(use: Use, document: object = None) -> None:
    """Use a set of keys whose server shows `document`."""
    clock, server = Clock(), Server(document or Issuer(keys={"k1": ONE}).jwks())
    async with anyio.create_task_group() as tasks:
        keys = KeySet("issuer", server.fetch, ("RS256", "ES256"), tasks, clock.monotonic)
        await use(keys, server, clock)
        tasks.cancel_scope.cancel()


async def test_a_new_key_is_found_and_a_withdrawn_one_is_forgotten() -> None:
    """An issuer changes its keys without notice (ours)."""

    async def use(keys: KeySet, server: Server, clock: Clock) -> None:
        await keys.find("RS256", "k1")
        server.document = Issuer(keys={"k2": TWO}).jwks()
        clock.now = PAUSE_SECONDS
        assert (await keys.find("RS256", "k2")).id == "k2"
        clock.now = 2 * PAUSE_SECONDS
        with pytest.raises(WrongToken):
            await keys.find("RS256", "k1")
        assert server.asked == 3

    await with_keys(use)


async def test_names_of_keys_that_do_not_exist_cause_one_question_in_ten_seconds() -> None:
    """What is not known yet is no reason to throw a token away (ours)."""

    async def use(keys: KeySet, server: Server, clock: Clock) -> None:
        with pytest.raises(WrongToken):
            await keys.find("RS256", "forged")
        clock.now = PAUSE_SECONDS - 4
        for number in range(1_000):
            with pytest.raises(IdentityUnknown) as refused:
                await keys.find("RS256", f"forged-{number}")
            assert refused.value.retry_after == 4
        assert (await keys.find("RS256", "k1")).id == "k1"
        assert server.asked == 1

    await with_keys(use)


async def test_many_who_wait_for_the_keys_cause_one_question() -> None:
    """The first of them may go away in the meantime (ours)."""

    async def use(keys: KeySet, server: Server, clock: Clock) -> None:
        server.shut()
        found = []

        async def find() -> None:
            found.append((await keys.find("RS256", "k1")).id)

        async with anyio.create_task_group() as first, anyio.create_task_group() as others:
            first.start_soon(find)
            await anyio.wait_all_tasks_blocked()
            for _ in range(50):
                others.start_soon(find)
            await anyio.wait_all_tasks_blocked()
            first.cancel_scope.cancel()
            server.open.set()
        assert server.asked == 1

    await with_keys(use)


async def test_whoever_waits_is_served_although_the_first_one_has_gone() -> None:
    async def use(keys: KeySet, server: Server, clock: Clock) -> None:
        server.shut()
        async with anyio.create_task_group() as tasks:
            gone = anyio.CancelScope()

            async def ask() -> None:
                with gone:
                    await keys.find("RS256", "k1")

            tasks.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            gone.cancel()
            await anyio.wait_all_tasks_blocked()
            server.open.set()
            assert (await keys.find("RS256", "k1")).id == "k1"
        assert server.asked == 1

    await with_keys(use)


async def test_old_keys_are_used_while_new_ones_are_fetched() -> None:
    """An issuer that hangs does not make anybody wait (ours)."""

    async def use(keys: KeySet, server: Server, clock: Clock) -> None:
        await keys.find("RS256", "k1")
        server.shut()
        clock.now = FRESH_SECONDS + 1
        for _ in range(3):
            assert (await keys.find("RS256", "k1")).id == "k1"
        await anyio.wait_all_tasks_blocked()
        assert server.asked == 2

    await with_keys(use)


async def test_keys_that_cannot_be_fetched_for_an_hour_are_not_used_any_more() -> None:
    """They may have been stolen in the meantime (ours)."""

    async def use(keys: KeySet, server: Server, clock: Clock) -> None:
        await keys.find("RS256", "k1")
        server.document = None
        clock.now = USABLE_SECONDS
        await keys.find("RS256", "k1")
        await anyio.wait_all_tasks_blocked()
        clock.now = USABLE_SECONDS + PAUSE_SECONDS + 1
        with pytest.raises(IdentityUnknown):
            await keys.find("RS256", "k1")
        server.document = Issuer(keys={"k1": ONE}).jwks()
        clock.now += PAUSE_SECONDS
        assert (await keys.find("RS256", "k1")).id == "k1"

    await with_keys(use)


def small_key() -> dict[str, Any]:
    """A key that can be broken."""
    return {**Issuer(keys={"k1": ONE}).jwk("k1"), "n": "AQAB" * 20}


JWK = Issuer(keys={"k1": ONE}).jwk("k1")
LIES: dict[str, object] = {
    "nothing": {"keys": []},
    "no list": {"keys": JWK},
    "no keys": {"x": 1},
    "too many keys": {"keys": [JWK] * (MAX_KEYS + 1)},
    "things that are no keys": {"keys": [None, 1, "k1", [], {}]},
    "a shared secret": {"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "k1", "alg": "HS256"}]},
    "a shared secret for RS256": {"keys": [{"kty": "oct", "k": "c2Vj", "alg": "RS256"}]},
    "a key for encryption": {"keys": [{**JWK, "use": "enc"}]},
    "a key for other work": {"keys": [{**JWK, "key_ops": ["encrypt"]}]},
    "a key for another signature": {"keys": [{**JWK, "alg": "RS512"}]},
    "a small key": {"keys": [small_key()]},
    "half a key": {"keys": [{name: JWK[name] for name in ("kty", "kid", "e")}]},
    "a key that is no number": {"keys": [{**JWK, "n": "!"}]},
    "a key whose number is a list": {"keys": [{**JWK, "n": []}]},
    "a private key": {"keys": [{**JWK, "d": "AQAB"}]},
    "a curve that is not its own": {"keys": [{**JWK, "kty": "EC", "crv": "P-256"}]},
    "a point beside its curve": {
        "keys": [{"kty": "EC", "crv": "P-256", "x": "AQAB", "y": "AQAB", "kid": "k1"}]
    },
    "a curve without signatures": {"keys": [{"kty": "OKP", "crv": "X25519", "x": "AQAB"}]},
}


@pytest.mark.parametrize("name", LIES)
async def test_a_document_of_keys_that_lies_leaves_the_old_keys(name: str) -> None:
    """It may be an accident of the issuer, and nobody has to sign in again for it (ours)."""

    async def use(keys: KeySet, server: Server, clock: Clock) -> None:
        await keys.find("RS256", "k1")
        server.document = LIES[name]
        clock.now = FRESH_SECONDS + 1
        with pytest.raises(IdentityUnknown):
            await keys.find("RS256", "k9")
        assert (await keys.find("RS256", "k1")).id == "k1"

    await with_keys(use)


async def test_a_bad_key_does_not_spoil_the_good_ones() -> None:
    async def use(keys: KeySet, server: Server, clock: Clock) -> None:
        assert (await keys.find("RS256", "k1")).id == "k1"

    await with_keys(use, {"keys": [small_key() | {"kid": "k0"}, {"kty": "new"}, JWK]})


async def test_one_name_for_keys_of_two_kinds_leads_to_the_right_one() -> None:
    async def use(keys: KeySet, server: Server, clock: Clock) -> None:
        assert (await keys.find("RS256", "k1")).material.key_size == 2048
        assert (await keys.find("ES256", "k1")).material.key_size == 256

    other = Issuer(keys={"k1": ("ES256", key_of("ES256"))}).jwk("k1")
    await with_keys(use, {"keys": [other, JWK]})


async def test_without_a_name_two_keys_are_too_many() -> None:
    """Trying all of them would let a forger choose how much work there is (ours)."""

    async def use(keys: KeySet, server: Server, clock: Clock) -> None:
        with pytest.raises(WrongToken):
            await keys.find("RS256", None)

    await with_keys(use, Issuer(keys={"k1": ONE, "k2": TWO}).jwks())


async def test_an_error_of_our_own_is_logged_and_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Payments run in the same process (ours)."""

    async def use(keys: KeySet, server: Server, clock: Clock) -> None:
        server.document = 7
        with pytest.raises(IdentityUnknown):
            await keys.find("RS256", "k1")
        server.document = Issuer(keys={"k1": ONE}).jwks()
        clock.now = PAUSE_SECONDS
        await keys.find("RS256", "k1")

    await with_keys(use, 7)
    assert "could not be read" in caplog.text


async def test_an_issuer_without_an_answer_is_no_reason_to_sign_in_again(
    scene: Scene, network: respx.Router, keys: respx.Route
) -> None:
    """A client would throw its token away on 401 (observed elsewhere)."""
    keys.side_effect = None
    keys.respond(500)
    token = scene.issuer.token()
    first, second = await scene.ask(token), await scene.ask(token)

    assert [first.status_code, second.status_code] == [503, 503]
    assert [first.headers["retry-after"], second.headers["retry-after"]] == ["10", "10"]
    assert keys.call_count == 1


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://evil.example", "jwks_uri": "https://evil.example/keys"},
        {"issuer": "https://login.example.com"},
        {"issuer": "https://login.example.com", "jwks_uri": "http://10.0.0.1/keys"},
        {"issuer": "https://login.example.com", "jwks_uri": 7},
        {"issuer": "https://login.example.com", "jwks_uri": "file:///etc/passwd"},
    ],
)
async def test_metadata_that_lie_are_not_believed(
    scene: Scene, network: respx.Router, metadata: dict[str, object]
) -> None:
    """Keys come over https, from where the issuer itself says (documented: RFC 8414)."""
    route = network.get("https://login.example.com/.well-known/openid-configuration")
    route.respond(json=metadata)
    elsewhere = network.get(url__regex=".*(evil|10.0.0.1).*").respond(json=scene.issuer.jwks())

    assert (await scene.ask(scene.issuer.token())).status_code == 503
    assert elsewhere.call_count == 0


async def test_metadata_are_also_found_in_the_place_of_rfc_8414(
    scene: Scene, network: respx.Router
) -> None:
    network.get("https://login.example.com/.well-known/openid-configuration").respond(404)
    network.get("https://login.example.com/.well-known/oauth-authorization-server").respond(
        json=scene.issuer.metadata()
    )

    assert (await scene.ask(scene.issuer.token())).status_code == 200
