"""Files of the public web over real sockets: what is sent, to which address, and what is not."""

import asyncio
import logging
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from pathlib import Path

import anyio
import anyio.lowlevel
import httpx
import pytest

from tests.web import self_signed
from tests.web.self_signed import system_store_is_openssl
from wan_mcp.web.fetch import Lookup, Unreachable, Web
from wan_mcp.web.header_limit import MAX_HEADER_BYTES

pytestmark = pytest.mark.anyio

HERE = "127.0.0.1"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

MakeAnswer = Callable[[str, str], bytes]
"""Makes an answer from the Host header and the path."""


class Site:
    """Gives one answer to every request, and records the requests."""

    def __init__(self, answer: MakeAnswer, *, then_silent: bool = False) -> None:
        self.requests: list[str] = []
        self.gone = anyio.Event()
        self.port = 0
        self._answer = answer
        self._then_silent = then_silent

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(head)
            host = head.lower().split("host: ")[1].split("\r\n")[0].partition(":")[0]
            writer.write(self._answer(host, head.split(" ")[1]))
            await writer.drain()
            if self._then_silent:
                await reader.read()
        writer.close()
        self.gone.set()


@asynccontextmanager
async def site(
    answer: MakeAnswer, tls: ssl.SSLContext | None = None, **options: bool
) -> AsyncIterator[Site]:
    site = Site(answer, **options)
    listener = await asyncio.start_server(site.serve, HERE, 0, ssl=tls)
    site.port = listener.sockets[0].getsockname()[1]
    try:
        with anyio.fail_after(600):
            yield site
    finally:
        listener.close()
    await listener.wait_closed()


class Names:
    """A resolver that knows these names, and resolves every other name to this machine."""

    def __init__(self, **known: list[str]) -> None:
        self.asked: list[str] = []
        self._known = known

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        return self._known.get(host.partition(".")[0], [HERE])


@asynccontextmanager
async def web(names: Names | None = None, *, seconds: float = 600) -> AsyncIterator[Web]:
    web = Web(
        loopback=True,
        resolve=names or Names(),
        connect_seconds=seconds,
        read_seconds=seconds,
    )
    yield web
    await web.aclose()


async def fetched(web: Web, url: str) -> bytes:
    async with web.get(url) as answer:
        return b"".join([block async for block in answer.body])


def to(location: str) -> bytes:
    """A redirect."""
    return f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


# Requests


async def test_the_answer_has_status_headers_final_url_and_body() -> None:
    """Errors are answers too, and header names are lower-case (ours)."""
    answer = b"HTTP/1.1 404 No\r\nX-Why: Gone\r\nContent-Length: 2\r\n\r\nno"
    async with (
        site(lambda host, path: answer) as server,
        web() as files,
        files.get(f"http://a.example.com:{server.port}/f?q=1") as got,
    ):
        body = [block async for block in got.body]

    assert (got.status, got.headers["x-why"], body) == (404, "Gone", [b"no"])
    assert got.url == f"http://a.example.com:{server.port}/f?q=1"


@pytest.mark.parametrize(
    ("start", "stop", "asked"),
    [
        (0, None, []),
        (0, 10, ["Range: bytes=0-9"]),
        (5, None, ["Range: bytes=5-"]),
        (5, 6, ["Range: bytes=5-5"]),
    ],
)
async def test_a_part_is_asked_for_by_range(start: int, stop: int | None, asked: list[str]) -> None:
    """Both ends of a range are inclusive; the whole file is asked for plainly (RFC 9110, 14.2)."""
    async with site(lambda host, path: OK) as server, web() as files:
        url = f"http://a.example.com:{server.port}/"
        async with files.get(url, start=start, stop=stop):
            pass

    assert [line for line in server.requests[0].split("\r\n") if "Range: " in line] == asked


async def test_no_cookie_password_or_referrer_is_sent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither a cookie from a redirect nor a password from a .netrc belongs to the file (ours)."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password hunter2\n")
    monkeypatch.setenv("NETRC", str(netrc))
    cookie = b"HTTP/1.1 302 Found\r\nLocation: /2\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"
    async with site(lambda host, path: OK if path == "/2" else cookie) as server, web() as files:
        assert await fetched(files, f"http://a.example.com:{server.port}/1") == b"hello"

    assert [sorted(head.lower().split("\r\n")[1:-2]) for head in server.requests] == [
        [
            "accept-encoding: identity",
            "accept: */*",
            f"host: a.example.com:{server.port}",
            f"user-agent: wan-mcp/{version('wan-mcp')} "
            "(mcp server; fetches the links that its user names)",
        ]
    ] * 2


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy looks up names itself, so no address could be checked (ours)."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with site(lambda host, path: OK) as server, web() as files:
        assert await fetched(files, f"http://a.example.com:{server.port}/") == b"hello"


async def test_no_log_holds_the_address(caplog: pytest.LogCaptureFixture) -> None:
    """A query may hold a signature, also in the header of a redirect (ours)."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "httpcore")
    signed = to("/f?sig=canary")
    async with site(lambda host, path: OK if "sig" in path else signed) as server, web() as files:
        assert await fetched(files, f"http://a.example.com:{server.port}/f") == b"hello"

    assert "canary" not in caplog.text


# Addresses


@pytest.mark.parametrize(
    "address",
    [
        *("10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "127.0.0.1", "0.0.0.0"),
        *("224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fd00::1", "ff02::1"),
        *("::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "::ffff:7f00:1"),
    ],
)
async def test_a_name_that_leads_inside_is_never_connected_to(address: str) -> None:
    """Nobody outside can reach it, and neither can PixelDojo (ours)."""
    files = Web(resolve=Names(trap=[address]))
    with pytest.raises(Unreachable, match="private network") as refused:
        await fetched(files, "http://trap.example.com/")

    assert refused.value.everywhere


@pytest.mark.parametrize("address", ["198.18.0.7", "100.64.1.1"])
async def test_a_stand_in_address_proves_nothing(address: str) -> None:
    """VPNs and proxies hand them out for public names (observed elsewhere)."""
    files = Web(resolve=Names(cdn=[address]))
    with pytest.raises(Unreachable, match="private network") as refused:
        await fetched(files, "http://cdn.example.com/")

    assert not refused.value.everywhere


async def test_only_allowed_addresses_of_a_name_are_used() -> None:
    """A name may hide a private address among public ones (ours)."""
    lookup = Lookup(
        loopback=False,
        resolve=Names(cdn=["2606:4700::1", "10.0.0.1", "1.1.1.1", "8.8.8.8", "9.9.9.9"]),
        seconds=60,
    )
    found = await lookup.find("cdn.example.com", 443)

    assert found == ["1.1.1.1", "8.8.8.8", "9.9.9.9"]


@pytest.mark.skipif(sys.platform == "darwin", reason="has no 127.0.0.2 to refuse a connection")
async def test_the_next_address_is_tried_when_one_is_dead() -> None:
    """Many hosts have several, and one may be down (ours)."""
    names = Names(cdn=["127.0.0.2", HERE])
    async with site(lambda host, path: OK) as server, web(names) as files:
        assert await fetched(files, f"http://cdn.example.com:{server.port}/") == b"hello"


async def test_a_name_is_looked_up_once_and_that_address_used() -> None:
    """A second lookup could give another address than was checked: DNS rebinding (ours)."""
    names = Names()
    async with site(lambda host, path: OK) as server, web(names) as files:
        # The system knows no such name, so the connection can only have gone to the checked one.
        assert await fetched(files, f"http://a.invalid.example:{server.port}/") == b"hello"

    assert names.asked == ["a.invalid.example"]


async def test_each_name_gets_a_connection_of_its_own() -> None:
    """A connection that was opened for one name must not carry a request for another (ours)."""
    async with site(lambda host, path: OK, then_silent=True) as server, web() as files:
        for name in ("a", "b", "b"):
            await fetched(files, f"http://{name}.example.com:{server.port}/")
            await server.gone.wait()

    assert len(server.requests) == 3


@pytest.mark.parametrize(("errno", "known"), [(socket.EAI_NONAME, True), (socket.EAI_AGAIN, False)])
async def test_a_name_that_does_not_exist_is_certain(errno: int, known: bool) -> None:
    """Only if the resolver finds a name that certainly exists; otherwise we are offline (ours)."""

    async def resolve(host: str, port: int) -> list[str]:
        if host == "pixeldojo.ai":
            return ["1.1.1.1"]
        raise socket.gaierror(errno, "no")

    with pytest.raises(Unreachable, match="host name") as unknown:
        await fetched(Web(resolve=resolve), "https://nowhere.example.com/")

    assert unknown.value.everywhere is known
    assert unknown.value.transient is not known


async def test_no_name_counts_as_unknown_while_offline() -> None:
    """Behind some proxies every public name is unknown (observed elsewhere)."""

    async def resolve(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "no")

    with pytest.raises(Unreachable, match="could not be looked up") as unknown:
        await fetched(Web(resolve=resolve), "https://nowhere.example.com/")

    assert not unknown.value.everywhere


async def test_the_system_resolver_is_checked_as_well() -> None:
    """The default is the real one: localhost is this machine, and not allowed (ours)."""
    lookup = Lookup(loopback=False, resolve=None, seconds=60)
    with pytest.raises(Unreachable, match="private network"):
        await lookup.find("localhost", 80)


# Redirects


async def test_five_redirects_are_followed_and_the_sixth_is_not() -> None:
    """A file that needs more is practically a circle (ours)."""
    steps = {f"/{n}": to(f"/{n - 1}") for n in range(1, 7)} | {"/0": OK}
    async with site(lambda host, path: steps[path]) as server, web() as files:
        base = f"http://a.example.com:{server.port}"
        assert await fetched(files, f"{base}/5") == b"hello"
        with pytest.raises(Unreachable, match="more than 5 times") as endless:
            await fetched(files, f"{base}/6")

    assert len(server.requests) == 12
    assert not endless.value.everywhere


@pytest.mark.parametrize(
    ("location", "asked"),
    [
        ("/my clip.mp4", "/my%20clip.mp4"),
        (' /a"b<c>.mp4?name="x y" ', "/a%22b%3Cc%3E.mp4?name=%22x%20y%22"),
        ("/clip%20done.mp4?sig=a%2Fb+c=", "/clip%20done.mp4?sig=a%2Fb+c="),
        ("/f\u00fcr.mp4", "/f%C3%BCr.mp4"),
        ("/long?" + "x" * 8_000, "/long?" + "x" * 8_000),
    ],
)
async def test_target_of_a_redirect_is_encoded_as_browsers_do(location: str, asked: str) -> None:
    """What is encoded already stays as it is: a signature covers it (ours)."""
    steps = {"/": to(location), asked: OK}
    async with site(lambda host, path: steps[path]) as server, web() as files:
        assert await fetched(files, f"http://a.example.com:{server.port}/") == b"hello"


async def test_a_circle_of_redirects_is_certain() -> None:
    """Also one whose addresses differ only after the # (ours)."""
    async with site(lambda host, path: to("/again#more")) as server, web() as files:
        with pytest.raises(Unreachable, match="in a circle") as circle:
            await fetched(files, f"http://a.example.com:{server.port}/")

    assert len(server.requests) == 2
    assert circle.value.everywhere


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("http://10.0.0.1/", "private network"),
        ("http://169.254.169.254/latest/meta-data/", "private network"),
        ("http://0x0a000001/", "private network"),
        ("http://[::ffff:10.0.0.1]/", "private network"),
        ("http://trap.example.com/", "private network"),
        ("http://router.local/", "private network"),
        ("file:///etc/passwd", "this computer"),
        ("ftp://a.example.com/", "must start with"),
        ("http://me:secret@a.example.com/", "password"),
        ("http://[", "not a URL"),
        ("http://a.example.com:99999/", "well-formed"),
    ],
)
async def test_a_redirect_is_checked_like_the_first_address(location: str, reason: str) -> None:
    """The oldest way into a network is a public page that points inside (ours)."""
    names = Names(trap=["192.168.0.1"])
    async with site(lambda host, path: to(location)) as server, web(names) as files:
        with pytest.raises(Unreachable, match=reason) as refused:
            await fetched(files, f"http://a.example.com:{server.port}/")

    assert len(server.requests) == 1
    assert refused.value.everywhere
    assert "secret" not in refused.value.what


async def test_the_sandbox_alone_opens_this_machine() -> None:
    """Without that permission loopback is as private as the rest (ours)."""
    async with site(lambda host, path: OK) as server, web() as files:
        url = f"http://127.0.0.1:{server.port}/"
        assert await fetched(files, url) == b"hello"
        with pytest.raises(Unreachable, match="this machine"):
            await fetched(Web(), url)

    assert len(server.requests) == 1


# Failures


async def test_a_body_that_breaks_off_is_transient() -> None:
    """The reader keeps what arrived before (ours)."""
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello"
    blocks = []

    async def read(files: Web, url: str) -> None:
        async with files.get(url) as answer:
            async for block in answer.body:
                blocks.append(block)

    async with site(lambda host, path: half) as server, web() as files:
        with pytest.raises(Unreachable, match="broke") as broken:
            await read(files, f"http://a.example.com:{server.port}/")

    assert blocks == [b"hello"]
    assert broken.value.transient


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\n", OK[:-2]])
async def test_silence_ends_at_any_point(sent: bytes) -> None:
    """Before, in and after the headers (ours)."""
    async with (
        site(lambda host, path: sent, then_silent=True) as server,
        web(seconds=0.2) as files,
    ):
        with pytest.raises(Unreachable, match="in time") as silent:
            await fetched(files, f"http://a.example.com:{server.port}/")

    assert silent.value.transient


async def test_a_refused_connection_is_transient() -> None:
    """It says nothing about PixelDojo, which fetches from elsewhere (ours)."""
    with socket.socket() as taken:
        taken.bind((HERE, 0))
        async with web() as files:
            with pytest.raises(Unreachable, match="no connection") as refused:
                await fetched(files, f"http://a.example.com:{taken.getsockname()[1]}/")

    assert (refused.value.transient, refused.value.everywhere) == (True, False)


async def test_leaving_the_answer_early_closes_the_connection() -> None:
    """Of an endless body no more is transferred than what was read (ours)."""
    begun = b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\nhello"
    async with site(lambda host, path: begun, then_silent=True) as server, web() as files:
        async with files.get(f"http://a.example.com:{server.port}/") as answer:
            async for block in answer.body:
                assert block == b"hello"
                break
        await server.gone.wait()


# Certificates


certificate, tls = self_signed.certificate, self_signed.tls


@system_store_is_openssl
async def test_the_certificate_is_checked_for_the_name_not_the_address(
    tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address is in the certificate, the second name is not (ours)."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with site(lambda host, path: OK, tls) as server, web() as files:
        assert await fetched(files, f"https://cdn.example.com:{server.port}/") == b"hello"
        with pytest.raises(Unreachable, match="not trusted") as mismatch:
            await fetched(files, f"https://other.example.com:{server.port}/")

    assert (mismatch.value.transient, mismatch.value.everywhere) == (False, False)
    assert len(server.requests) == 1


async def test_an_untrusted_certificate_gets_no_request(tls: ssl.SSLContext) -> None:
    """PixelDojo may trust another authority, so it is not certain (ours)."""
    async with site(lambda host, path: OK, tls) as server, web() as files:
        with pytest.raises(Unreachable, match="not trusted"):
            await fetched(files, f"https://cdn.example.com:{server.port}/")

    assert not server.requests


@system_store_is_openssl
async def test_no_redirect_leads_from_https_to_http(
    tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the way the file could be read and changed (ours)."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    plain = to("http://cdn.example.com/")
    async with site(lambda host, path: plain, tls) as server, web() as files:
        with pytest.raises(Unreachable, match="from https to http") as refused:
            await fetched(files, f"https://cdn.example.com:{server.port}/")

    assert not refused.value.everywhere


async def test_other_work_goes_on_between_the_smallest_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One read of the socket brings thousands of them; all calls waited for 3 s (measured)."""
    monkeypatch.setattr("wan_mcp.web.fetch._PAUSE_SECONDS", 0.0)
    body = b"1\r\nx\r\n" * 3_000 + b"0\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    turns = blocks = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async with (
        site(lambda *_: head + body) as one,
        web() as client,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(other)
        async with client.get(f"http://a.example.com:{one.port}/") as answer:
            async for block in answer.body:
                blocks += len(block)
        tasks.cancel_scope.cancel()

    assert blocks == 3_000
    assert turns >= 3_000


async def test_many_tiny_blocks_of_one_answer_are_read_slowly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each costs as much work as a large one, and nobody sends a file in that way (ours)."""
    pauses: list[float] = []
    sleep = anyio.sleep

    async def noted(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr("wan_mcp.web.fetch.anyio.sleep", noted)
    body = b"1\r\nx\r\n" * 300 + b"0\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with site(lambda *_: head + body) as one, web() as client:
        assert await fetched(client, f"http://a.example.com:{one.port}/") == b"x" * 300

    assert len([seconds for seconds in pauses if seconds]) == 300 - 256


async def test_an_answer_of_many_headers_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at one header walks through all of them: 14,000 took 6 s (measured)."""
    looks = 0
    look = httpx.Headers.__getitem__

    def counted(self: httpx.Headers, key: str) -> str:
        nonlocal looks
        looks += 1
        return look(self, key)

    monkeypatch.setattr(httpx.Headers, "__getitem__", counted)
    lines = b"".join(b"x%x:\r\n" % number for number in range(500))
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + lines + b"\r\n"
    async with (
        site(lambda *_: answer) as one,
        web() as client,
        client.get(f"http://a.example.com:{one.port}/") as got,
    ):
        assert len(got.headers) == 501

    assert looks < 10


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
MANY_LINES = b"x: y\r\n" * (MAX_HEADER_BYTES // 6)


@pytest.mark.parametrize(
    "sent",
    [
        OK.replace(b"\r\n", b"\r\n" + MANY_LINES, 1),
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * MAX_HEADER_BYTES,
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * (MAX_HEADER_BYTES // 28) + OK,
        CHUNKED + b"1\r\nx\r\n0\r\n" + MANY_LINES * 3 + b"\r\n",
        CHUNKED + b"1;" + b"y" * MAX_HEADER_BYTES * 3,
    ],
    ids=["lines", "one line", "interim answers", "trailers", "an extension of a chunk"],
)
async def test_a_server_cannot_send_headers_without_end(sent: bytes) -> None:
    """They are read in one step, in which all other calls wait (measured)."""
    async with site(lambda *_: sent, then_silent=True) as server, web() as files:
        with pytest.raises(Unreachable, match="more than 8192 bytes of headers") as refused:
            await fetched(files, f"http://a.example.com:{server.port}/")
        await server.gone.wait()

    assert (refused.value.transient, refused.value.everywhere) == (False, False)


@system_store_is_openssl
async def test_the_limit_of_headers_holds_within_encryption(
    tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    sent = OK.replace(b"\r\n", b"\r\n" + MANY_LINES, 1)
    async with site(lambda *_: sent, tls) as server, web() as files:
        with pytest.raises(Unreachable, match="more than 8192 bytes of headers"):
            await fetched(files, f"https://cdn.example.com:{server.port}/")


async def test_headers_up_to_the_limit_and_a_body_of_any_length_are_read() -> None:
    """A content security policy may have several kilobytes (observed elsewhere)."""
    begin, end = b"HTTP/1.1 200 OK\r\nX: ", b"\r\nContent-Length: 99999\r\n\r\n"
    policy = b"y" * (MAX_HEADER_BYTES - len(begin + end))
    async with (
        site(lambda *_: begin + policy + end + bytes(99_999)) as server,
        web() as files,
        files.get(f"http://a.example.com:{server.port}/") as answer,
    ):
        body = b"".join([block async for block in answer.body])

    assert answer.headers["x"] == policy.decode()
    assert body == bytes(99_999)
