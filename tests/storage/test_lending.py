"""Lending: a link for each input of a live request, through whatever leads to the port."""

import hashlib
import io
import random
import socket
import sys
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from tests.storage.lending_client import HOST, Reply, content_of, get, tunnel
from tests.virtual_time import VirtualTime, in_virtual_time
from wan_mcp.errors import CouldNotFindOut, NotSent
from wan_mcp.storage.delivery import Content
from wan_mcp.storage.lending import RETRY_SECONDS, SWEEP_SECONDS, Lending

pytestmark = pytest.mark.anyio
time, anyio_backend = in_virtual_time(sockets=True)

VIDEO = content_of(random.Random(1).randbytes(2_500_000))
IMAGE = content_of(random.Random(2).randbytes(70_000), ".png", "image/png")
DATA = VIDEO.open().read()
KEY = b"k" * 32


class Requests:
    """The live requests of a ledger, and the servers that lend for them."""

    def __init__(self, folder: Path, time: VirtualTime) -> None:
        self.folder = folder
        self.live = {"sub_1"}
        self.asked: list[str] = []
        self.error: Exception | None = None
        self._time = time

    async def secret(self) -> bytes:
        return KEY

    async def is_live(self, submission_id: str) -> bool:
        self.asked.append(submission_id)
        if self.error:
            raise self.error
        return submission_id in self.live

    @asynccontextmanager
    async def server(self, url: str = "", *, port: int = 0) -> AsyncIterator[Lending]:
        """A server, until the end of the block; without a URL, its links lead straight to it."""
        port = port or free_port()
        async with anyio.create_task_group() as tasks:
            lending = Lending(
                url or f"http://{HOST}:{port}",
                port,
                self.folder,
                secret=self.secret,
                is_live=self.is_live,
                tasks=tasks,
                clock=self._time.clock(),
            )
            yield lending
            tasks.cancel_scope.cancel()

    def copies(self) -> list[str]:
        return sorted(path.name for path in self.folder.rglob("*") if path.is_file())


def free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture
def requests(tmp_path: Path, time: VirtualTime) -> Requests:
    return Requests(tmp_path / "data" / "lent", time)


def unheard(sent: int) -> None:
    """A report that nobody reads."""


async def fetched(link: str) -> Reply:
    """What the link gives."""
    host, _, path = link.removeprefix("http://").partition("/")
    return await get(int(host.partition(":")[2]), f"/{path}")


async def not_sent(linking: Awaitable[str]) -> NotSent:
    with pytest.raises(NotSent) as failed:
        await linking
    assert failed.value.charged == "no"
    return failed.value


async def test_links_through_a_proxy_give_exactly_the_bytes_of_the_inputs(
    requests: Requests,
) -> None:
    """The proxy passes its own path on; each input has a link of its own (ours)."""
    port = free_port()
    reports: list[int] = []
    async with tunnel(lambda: port) as public:
        url = f"http://{HOST}:{public}/of/mine"
        async with requests.server(url, port=port) as lending:
            video = await lending.link(VIDEO, "sub_1", "video", reports.append)
            image = await lending.link(IMAGE, "sub_1", "character_image", unheard)

            clip, picture = await fetched(video), await fetched(image)

    assert video.startswith(f"{url}/")
    assert (video[-4:], image[-4:]) == (".mp4", ".png")
    assert (clip.body, clip.headers["content-type"]) == (DATA, "video/mp4")
    assert (picture.body, picture.headers["content-type"]) == (IMAGE.open().read(), "image/png")
    assert reports == sorted(reports)
    assert reports[-1] == VIDEO.size


async def test_what_is_lent_stays_as_it_was_hashed(requests: Requests, tmp_path: Path) -> None:
    """PixelDojo may fetch it again while the user goes on editing (ours)."""
    original = tmp_path / "clip.mp4"
    original.write_bytes(DATA)
    content = Content(lambda: original.open("rb"), VIDEO.size, VIDEO.sha256, ".mp4", "video/mp4")
    async with requests.server() as lending:
        link = await lending.link(content, "sub_1", "video", unheard)
        original.write_bytes(b"edited")

        assert (await fetched(link)).body == DATA


async def test_thousand_guessed_names_find_nothing_and_ask_no_ledger(requests: Requests) -> None:
    """Not even names that differ from the right one in a single digit (ours)."""
    chance = random.Random(1000)
    async with requests.server() as lending:
        link = await lending.link(VIDEO, "sub_1", "video", unheard)
        token = link[-68:-4]
        guesses = {f"{chance.getrandbits(256):064x}" for _ in range(900)}
        guesses |= {hashlib.sha256(f"sub_1/{word}".encode()).hexdigest() for word in range(36)}
        guesses |= {token[:place] + other(token[place]) + token[place + 1 :] for place in range(64)}
        statuses: set[int] = set()

        async def guess(names: list[str]) -> None:
            for name in names:
                statuses.add((await get(lending.port, f"/{name}.mp4")).status)

        requests.asked.clear()
        names = sorted(guesses)
        async with anyio.create_task_group() as tasks:
            for first in range(20):
                tasks.start_soon(guess, names[first::20])

        assert (len(guesses), statuses, requests.asked) == (1_000, {404}, [])
        assert (await fetched(link)).status == 200


def other(digit: str) -> str:
    return "0" if digit != "0" else "1"


@pytest.mark.parametrize("released", [True, False])
async def test_link_ends_with_the_job(released: bool, requests: Requests) -> None:
    """Whether or not this server heard of the end (ours)."""
    requests.live.add("sub_2")
    async with requests.server() as lending:
        link = await lending.link(VIDEO, "sub_1", "video", unheard)
        another = await lending.link(VIDEO, "sub_2", "video", unheard)
        requests.live.remove("sub_1")
        if released:
            await lending.release("sub_1")

        assert (await fetched(link)).status == 404
        assert (await fetched(another)).body == DATA
        assert len(requests.copies()) == (1 if released else 2)


async def test_restarted_server_lends_the_same_link(requests: Requests) -> None:
    """PixelDojo may fetch an input after the server that paid was killed (ours)."""
    port = free_port()
    async with requests.server(port=port) as lending:
        link = await lending.link(VIDEO, "sub_1", "video", unheard)
    async with requests.server(port=port) as lending, anyio.create_task_group() as tasks:
        tasks.start_soon(lending.run)
        await anyio.lowlevel.checkpoint()

        assert (await fetched(link)).body == DATA
        assert await lending.link(VIDEO, "sub_1", "video", unheard) == link
        tasks.cancel_scope.cancel()
    assert len(requests.copies()) == 1


async def test_second_server_lends_through_the_first_and_takes_over_when_that_ends(
    requests: Requests, time: VirtualTime
) -> None:
    """They share the port, the address, the ledger and the folder (ours)."""
    port = free_port()
    async with requests.server(port=port) as second, anyio.create_task_group() as tasks:
        async with requests.server(port=port) as first:
            await first.link(VIDEO, "sub_1", "video", unheard)
            tasks.start_soon(second.run)
            requests.live.add("sub_2")
            link = await second.link(IMAGE, "sub_2", "character_image", unheard)

            assert (await fetched(link)).body == IMAGE.open().read()
        with pytest.raises(OSError, match="connect"):
            await fetched(link)
        await anyio.sleep(RETRY_SECONDS)  # virtual time

        assert (await fetched(link)).body == IMAGE.open().read()
        tasks.cancel_scope.cancel()


LENDER = """
import sys
from pathlib import Path

import anyio

from wan_mcp.clock import Clock
from wan_mcp.storage.lending import Lending


async def secret():
    return b"k" * 32


async def is_live(submission_id):
    return True


async def main(port, folder):
    async with anyio.create_task_group() as tasks:
        url = f"http://127.0.0.1:{port}"
        lending = Lending(
            url, port, folder, secret=secret, is_live=is_live, tasks=tasks, clock=Clock()
        )
        tasks.start_soon(lending.run)
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        print("ready", flush=True)


anyio.run(main, int(sys.argv[1]), Path(sys.argv[2]))
"""


async def test_server_in_another_process_lends_the_link_until_it_is_killed(
    requests: Requests,
) -> None:
    """No word passes between the two but the folder and the key (ours)."""
    port = free_port()
    command = [sys.executable, "-P", "-c", LENDER, str(port), str(requests.folder)]
    async with await anyio.open_process(command, stderr=None) as process:
        assert process.stdout is not None
        await process.stdout.receive()
        async with requests.server(port=port) as lending:
            link = await lending.link(VIDEO, "sub_1", "video", unheard)
            lent_there = (await fetched(link)).body
            asked_here = list(requests.asked)
            process.kill()
            await process.wait()

            assert await lending.link(VIDEO, "sub_1", "video", unheard) == link
            lent_here = (await fetched(link)).body

    assert (lent_there == DATA, asked_here) == (True, [])
    assert (lent_here == DATA, set(requests.asked)) == (True, {"sub_1"})


async def test_port_of_another_program_is_a_sentence_and_no_job(requests: Requests) -> None:
    """Nobody else's program may be asked for the file by PixelDojo (ours)."""
    async with (
        tunnel(lambda: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi") as taken,
        requests.server(port=taken) as lending,
    ):
        failure = await not_sent(lending.link(VIDEO, "sub_1", "video", unheard))

    assert failure.what.startswith(f"Port {taken} of this computer, to which WAN_MCP_PUBLIC_URL")
    assert "already in use" in failure.what
    assert "WAN_MCP_PUBLIC_PORT" in failure.next_step
    assert not failure.transient


async def test_port_of_a_server_with_another_ledger_is_not_ours(
    requests: Requests, tmp_path: Path, time: VirtualTime
) -> None:
    """It does not know the request, so it would not lend the file (ours)."""
    others = Requests(tmp_path / "other" / "lent", time)
    async with others.server() as other_lending:
        await other_lending.link(VIDEO, "sub_1", "video", unheard)
        requests.live.add("sub_2")
        async with requests.server(port=other_lending.port) as lending:
            await not_sent(lending.link(VIDEO, "sub_2", "video", unheard))


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "HTTP 502"),
        (b"HTTP/1.1 530 \r\nContent-Length: 0\r\n\r\n", "HTTP 530"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "HTTP 404"),
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", "HTTP 401"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", "another file is there"),
        (
            b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-0/9\r\n"
            b"Content-Length: 1\r\n\r\nx",
            "another file is there",
        ),
    ],
)
async def test_tunnel_that_certainly_leads_elsewhere_is_a_sentence_and_no_job(
    answer: bytes, why: str, requests: Requests
) -> None:
    """A job whose input PixelDojo cannot fetch may be paid, and fail (documented)."""
    async with (
        tunnel(lambda: answer) as public,
        requests.server(f"http://{HOST}:{public}") as lending,
    ):
        failure = await not_sent(lending.link(VIDEO, "sub_1", "video", unheard))

    assert failure.what == (
        f"WAN_MCP_PUBLIC_URL does not lead to port {lending.port} of this computer: {why}."
    )
    assert failure.retry_safe


@pytest.mark.parametrize(
    ("known", "refuses"),
    [
        ({"pixeldojo.ai": "192.0.2.1"}, True),  # the name of a quick tunnel is gone with the tunnel
        ({}, False),  # offline, no name is known
        ({"gone.example.com": "192.168.0.9"}, False),  # what a home network says of its own server
    ],
)
async def test_only_a_name_that_nobody_knows_refuses(
    known: dict[str, str], refuses: bool, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What this computer sees of a name may differ from what PixelDojo sees (assumed)."""

    async def lookup(host: str, port: int) -> list[str]:
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [known[host]]

    monkeypatch.setattr("wan_mcp.web.fetch._system_resolver", lookup)
    async with requests.server("https://gone.example.com") as lending:
        linking = lending.link(VIDEO, "sub_1", "video", unheard)
        if refuses:
            assert "its host name does not exist" in (await not_sent(linking)).what
        else:
            assert (await linking).startswith("https://gone.example.com/")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n",
        b"",
    ],
)
async def test_what_may_concern_this_computer_alone_is_only_noted(
    answer: bytes, requests: Requests, caplog: pytest.LogCaptureFixture
) -> None:
    """A rule against programs, or a network that does not lead back to itself (assumed)."""
    async with (
        tunnel(lambda: answer) as public,
        requests.server(f"http://{HOST}:{public}") as lending,
    ):
        link = await lending.link(VIDEO, "sub_1", "video", unheard)

    assert link.startswith(f"http://{HOST}:{public}/")
    assert "WAN_MCP_PUBLIC_URL could not be tried from here: " in caplog.text
    assert link[-68:-4] not in caplog.text


async def test_tunnel_that_never_answers_is_asked_for_a_bounded_time(
    requests: Requests, time: VirtualTime
) -> None:
    """The request waits for it (ours)."""
    listener = socket.create_server((HOST, 0))  # it accepts and says nothing
    with listener:
        async with requests.server(f"http://{HOST}:{listener.getsockname()[1]}") as lending:
            await lending.link(VIDEO, "sub_1", "video", unheard)

    assert time.passed() <= 11


@pytest.mark.parametrize("change", [DATA[:-1], DATA + b"x", DATA[:-1] + b"?", b""])
async def test_file_that_changes_while_it_is_copied_is_not_lent(
    change: bytes, requests: Requests
) -> None:
    """Only what was hashed may be sent; nothing of the other stays (ours)."""
    content = Content(lambda: io.BytesIO(change), VIDEO.size, VIDEO.sha256, ".mp4", "video/mp4")
    async with requests.server() as lending:
        failure = await not_sent(lending.link(content, "sub_1", "video", unheard))

    assert failure.what == "The file for video changed while it was read."
    assert requests.copies() == []


async def test_file_that_cannot_be_opened_or_copied_is_a_sentence_without_its_path(
    requests: Requests, tmp_path: Path
) -> None:
    """A path may show what the user wants to keep to himself (ours)."""
    missing = tmp_path / "private name.mp4"
    content = Content(lambda: missing.open("rb"), 5, VIDEO.sha256, ".mp4", "video/mp4")
    async with requests.server() as lending:
        failure = await not_sent(lending.link(content, "sub_1", "video", unheard))

    assert "No such file or directory" in failure.what
    assert "private name" not in failure.what


async def test_cancelled_copy_leaves_nothing_behind(requests: Requests) -> None:
    """A request that is withdrawn while its file is copied (ours)."""
    async with requests.server() as lending:
        with anyio.CancelScope() as scope:
            await lending.link(VIDEO, "sub_1", "video", lambda sent: scope.cancel())

    assert scope.cancelled_caught
    assert requests.copies() == []


async def test_changed_copy_of_the_same_input_replaces_the_earlier_one(requests: Requests) -> None:
    """A request lends one file for each of its inputs (ours)."""
    async with requests.server() as lending:
        link = await lending.link(VIDEO, "sub_1", "video", unheard)

        assert await lending.link(IMAGE, "sub_1", "video", unheard) == link[:-4] + ".png"
        assert (await fetched(link)).body == IMAGE.open().read()
    assert len(requests.copies()) == 1


async def test_copies_of_ended_requests_are_deleted_at_start_and_later(
    requests: Requests, time: VirtualTime
) -> None:
    """Those of a server that was killed; while the ledger cannot be read, none (ours)."""
    requests.live = {"sub_1", "sub_2", "sub_3"}
    async with requests.server() as lending:
        for submission_id in sorted(requests.live):
            await lending.link(IMAGE, submission_id, "character_image", unheard)
    requests.live = {"sub_2", "sub_3"}
    seen = []
    async with requests.server() as lending, anyio.create_task_group() as tasks:
        tasks.start_soon(lending.run)
        for state in ({"sub_3"}, {"sub_3"}, set()):
            await anyio.sleep(SWEEP_SECONDS)  # virtual time
            seen.append(sorted(path.name for path in requests.folder.iterdir()))
            requests.error = CouldNotFindOut("no") if len(seen) == 1 else None
            requests.live = state
        await anyio.sleep(2 * RETRY_SECONDS)
        tasks.cancel_scope.cancel()

    assert seen[0] == ["sub_2", "sub_3"]
    assert [path.name for path in requests.folder.iterdir()] == []


@pytest.mark.parametrize("submission_id", ["", "..", "a/b", "a\\b", "a.b", "x" * 200])
async def test_id_that_is_no_id_reaches_no_file(
    submission_id: str, requests: Requests, tmp_path: Path
) -> None:
    """An id comes from the ledger, and still is never a path (ours)."""
    requests.folder.mkdir(parents=True)
    async with requests.server() as lending:
        await lending.release(submission_id)
        with pytest.raises(ValueError, match="not a submission id"):
            await lending.link(IMAGE, submission_id, "video", unheard)

    assert requests.folder.is_dir()
