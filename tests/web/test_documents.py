"""Documents from the operator's own addresses: small, quick, and without detours."""

from collections.abc import AsyncIterator, Iterator

import anyio
import anyio.lowlevel
import httpx
import pytest
import respx

from wan_mcp.web.documents import MAX_BYTES, Documents, Unavailable

pytestmark = pytest.mark.anyio
URL = "https://login.internal/keys?secret=in-the-query"


@pytest.fixture
def network() -> Iterator[respx.Router]:
    with respx.mock(assert_all_called=False) as router:
        yield router


@pytest.fixture
async def documents() -> AsyncIterator[Documents]:
    documents = Documents()
    yield documents
    await documents.aclose()


async def test_a_document_may_come_from_a_private_network(
    network: respx.Router, documents: Documents
) -> None:
    """The authorization server of a company is often there (ours)."""
    network.get("https://10.0.0.7/keys").respond(json={"keys": []})

    assert await documents.get("https://10.0.0.7/keys") == {"keys": []}


BAD = {
    "answers with status 302": httpx.Response(302, headers={"location": "https://evil.example"}),
    "answers with status 404": httpx.Response(404, json={}),
    "answers with status 204": httpx.Response(204),
    "answers with more than": httpx.Response(200, content=b" " * (MAX_BYTES + 1)),
    "answers with a packed": httpx.Response(
        200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"\x1f\x8b")
    ),
    "is not JSON": httpx.Response(200, text="<html>"),
    "is no JSON object": httpx.Response(200, json=[]),
}


@pytest.mark.parametrize("why", BAD)
async def test_anything_else_than_a_small_object_is_refused(
    network: respx.Router, documents: Documents, why: str
) -> None:
    network.get(URL).mock(return_value=BAD[why])
    elsewhere = network.get("https://evil.example").respond(json={})

    with pytest.raises(Unavailable, match=why):
        await documents.get(URL)
    assert elsewhere.call_count == 0


@pytest.mark.parametrize("status", [200, 400, 401])
async def test_document_of_a_refusal_is_read_where_it_is_asked_for(
    network: respx.Router, documents: Documents, status: int
) -> None:
    """It says why a code gets no token (documented: RFC 6749)."""
    network.post(URL).respond(status, json={"error": "x"})
    other = network.post("https://login.internal/other").respond(403, json={"error": "x"})

    assert await documents.post(URL, {"a": "b"}, None, (400, 401)) == {"error": "x"}
    with pytest.raises(Unavailable, match="answers with status 403"):
        await documents.post("https://login.internal/other", {"a": "b"}, None, (400, 401))
    assert "authorization" not in other.calls.last.request.headers


async def test_a_document_that_is_nested_too_deep_is_refused(
    network: respx.Router, documents: Documents
) -> None:
    network.get(URL).respond(content=b'{"a":' * 20_000)

    with pytest.raises(Unavailable, match="is not JSON"):
        await documents.get(URL)


async def test_a_server_that_hangs_is_waited_for_only_so_long(network: respx.Router) -> None:
    async def hang(_request: httpx.Request) -> httpx.Response:
        await anyio.sleep_forever()
        raise AssertionError

    network.get(URL).mock(side_effect=hang)
    documents = Documents(seconds=0.01)
    with pytest.raises(Unavailable, match="does not answer in time"):
        await documents.get(URL)
    await documents.aclose()


async def test_a_body_that_never_ends_is_waited_for_only_so_long(network: respx.Router) -> None:
    """Each byte would begin a new limit for reading (ours)."""

    class Drops(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                await anyio.lowlevel.checkpoint()
                yield b""

    network.get(URL).mock(return_value=httpx.Response(200, stream=Drops()))
    documents = Documents(seconds=0.01)
    with pytest.raises(Unavailable, match="does not answer in time"):
        await documents.get(URL)
    await documents.aclose()


@pytest.mark.parametrize(
    "error", [httpx.ConnectError("x"), httpx.RemoteProtocolError("x"), OSError("x")]
)
async def test_a_server_that_cannot_be_reached_is_named_without_its_address(
    network: respx.Router, documents: Documents, error: Exception
) -> None:
    network.get(URL).mock(side_effect=error)

    with pytest.raises(Unavailable) as refused:
        await documents.get(URL)
    assert str(refused.value) == "cannot be reached"


async def test_an_environment_without_a_usable_proxy_is_said_to_be_so(
    network: respx.Router, documents: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "ftp://proxy.example:1")

    with pytest.raises(Unavailable, match="behind a proxy of the environment"):
        await documents.get(URL)
