"""The front desk: what it answers before the SDK is ready is what the SDK would have answered."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.snapshots import COMMAND, early_answers, front_desk_json, pinned_releases
from wan_mcp.front_desk import desk as desk_module
from wan_mcp.front_desk import snapshot
from wan_mcp.front_desk.conversation import Conversation
from wan_mcp.front_desk.desk import FrontDesk
from wan_mcp.front_desk.lines import Line
from wan_mcp.front_desk.snapshot import (
    DEPENDS,
    KEPT,
    SHIPPED,
    Snapshot,
    Snapshots,
    installed_versions,
)
from wan_mcp.server import build_server
from wan_mcp.settings import Settings
from wan_mcp.transports import stdio
from wan_mcp.transports.shutdown import Deadlines, Shutdown

SLOW_MACHINE_SECONDS = 600
"""A bound on what could hang; no claim about speed."""
DEADLINES = Deadlines(grace_seconds=600, last_write_seconds=600, last_answers_seconds=600)
EXAMPLES = int(os.environ.get("FRONT_DESK_EXAMPLES", "60"))
"""How many random conversations; in full 1,000."""

Message = dict[str, Any]

HANDSHAKE = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]
MODERN = "2026-07-28"
PREFIX = "io.modelcontextprotocol/"
CLIENT = {"name": "host", "version": "1", "title": "H\u00f6st", "websiteUrl": "https://example.com"}
CAPABILITIES = {
    "roots": {"listChanged": True},
    "sampling": {},
    "elicitation": {"form": {}, "url": {}},
    "extensions": {"io.modelcontextprotocol/ui": {"mimeTypes": ["text/html;profile=mcp-app"]}},
    "experimental": {"x": {"deep": [1, None]}},
}
ENVELOPE = {
    f"{PREFIX}protocolVersion": MODERN,
    f"{PREFIX}clientInfo": CLIENT,
    f"{PREFIX}clientCapabilities": CAPABILITIES,
}
LISTS = ("tools/list", "prompts/list", "resources/list", "resources/templates/list")


def request(id: object, method: str, **params: object) -> Message:
    message = {"jsonrpc": "2.0", "id": id, "method": method}
    return {**message, "params": params} if params else message


def hello(id: object, revision: object = "2025-06-18", **changes: object) -> Message:
    client = {"capabilities": CAPABILITIES, "clientInfo": CLIENT, **changes}
    return request(id, "initialize", protocolVersion=revision, **client)


def modern(id: object, method: str, **changes: object) -> Message:
    return request(id, method, _meta={**ENVELOPE, **changes})


INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def as_lines(messages: Sequence[Message | bytes]) -> list[bytes]:
    return [
        each if isinstance(each, bytes) else json.dumps(each).encode() + b"\n" for each in messages
    ]


@pytest.fixture(scope="module")
def answers() -> Message:
    """A snapshot of this version of everything, as the command makes it."""
    return anyio.run(early_answers)


# Conversations, with the desk and without


class Talk:
    """What came of one conversation.

    Attributes:
        answers: what the client got, in order.
        early: how many of them were the desk's.
        asked: the messages that the SDK got, in order.
    """

    def __init__(self) -> None:
        self.answers: list[Message] = []
        self.early = 0
        self.asked: list[Line] = []


class Server:
    """One real server for many conversations."""

    def __init__(self) -> None:
        self.real = build_server(Settings(), local=True)
        self.low = self.real._lowlevel_server

    async def talk(
        self,
        messages: Sequence[bytes],
        data: Message | None,
        later: int = 0,
        snapshots: Snapshots | None = None,
    ) -> Talk:
        """One conversation.

        Args:
            data: the snapshot of the desk; None for a conversation without one.
            later: how many of the messages come only after the SDK has taken over.
            snapshots: where answers are kept.
        """
        talk = Talk()
        stdin, to_server = os.pipe()
        from_server, stdout = os.pipe()
        desk = FrontDesk(stdin, stdout, snapshots)
        if data is not None:
            desk._conversation = Conversation(Snapshot(data))
            desk.has_snapshot = True
        for line in messages[: len(messages) - later]:
            desk._take(line)
        talk.early = sum(answer is not None for _, answer in desk._early)
        os.write(to_server, b"".join(messages[len(messages) - later :]))
        os.close(to_server)
        desk.start()
        with Shutdown(deadlines=DEADLINES) as shutdown:
            await self._serve(desk, shutdown, talk)
        os.close(stdout)
        with open(from_server, "rb") as read:  # noqa: ASYNC230 - its other end is closed
            talk.answers = [json.loads(line) for line in read]
        os.close(stdin)
        return talk

    async def _serve(self, desk: FrontDesk, shutdown: Shutdown, talk: Talk) -> None:
        take = stdio._Intake._take

        async def noted(self: Any, line: Line, answer: bytes | None) -> None:
            talk.asked.append(line)
            await take(self, line, answer)

        with pytest.MonkeyPatch.context() as patch, anyio.fail_after(SLOW_MACHINE_SECONDS):
            patch.setattr(stdio._Intake, "_take", noted)
            await stdio.serve_desk(self.real, desk, shutdown)


def sorted_by_id(answers: list[Message]) -> list[str]:
    """The SDK works on requests at the same time, so only each answer counts, not the order."""
    return sorted(json.dumps(answer, sort_keys=True) for answer in answers)


async def same_with_and_without(
    server: Server, messages: Sequence[Message | bytes], data: Message, later: int = 0
) -> Talk:
    lines = as_lines(messages)
    without = await server.talk(lines, None)
    with_desk = await server.talk(lines, data, later)

    assert sorted_by_id(with_desk.answers) == sorted_by_id(without.answers)
    assert with_desk.asked == without.asked == lines
    return with_desk


@pytest.mark.parametrize("revision", [*HANDSHAKE, "2099-01-01"])
def test_a_handshake_conversation_is_the_same_with_the_desk(
    revision: str, answers: Message
) -> None:
    """A host must not notice who answers (ours)."""
    messages = [
        hello(0, revision),
        INITIALIZED,
        request("p", "ping"),
        *(request(number, method) for number, method in enumerate(LISTS, 1)),
        request(5, "tools/list", _meta={"progressToken": 5}),
    ]

    talk = anyio.run(same_with_and_without, Server(), messages, answers)

    assert talk.early == len(messages) - 1
    assert [answer["id"] for answer in talk.answers] == [0, "p", 1, 2, 3, 4, 5]


def test_a_modern_conversation_is_the_same_with_the_desk(answers: Message) -> None:
    """The same, without a handshake (ours)."""
    messages = [
        modern("d", "server/discover"),
        *(modern(number, method) for number, method in enumerate(LISTS)),
        modern("e", "server/discover", progressToken="t"),
    ]

    talk = anyio.run(same_with_and_without, Server(), messages, answers)

    assert talk.early == len(messages)


UNUSUAL: dict[str, list[Message | bytes]] = {
    "discover, then initialize": [modern(1, "server/discover"), hello(2), request(3, "tools/list")],
    "list before initialize": [request(1, "tools/list"), hello(2), request(3, "tools/list")],
    "ping first": [request(1, "ping"), hello(2), request(3, "ping")],
    "initialize twice": [hello(1, "2024-11-05"), hello(2, "2025-11-25"), request(3, "tools/list")],
    "initialize in the modern era": [modern(1, "tools/list"), hello(2), modern(3, "tools/list")],
    "modern list after initialize": [hello(1), modern(2, "tools/list"), request(3, "tools/list")],
    "old list in the modern era": [modern(1, "tools/list"), request(2, "tools/list")],
    "unknown first": [request(1, "foo/bar"), modern(2, "server/discover"), hello(3)],
    "unknown modern revision": [modern(1, "server/discover", **{f"{PREFIX}protocolVersion": "x"})],
    "no capabilities": [modern(1, "server/discover", **{f"{PREFIX}clientCapabilities": None})],
    "number for a revision": [hello(1, 7), request(2, "tools/list")],
    "client without a version": [hello(1, clientInfo={"name": "x"}), request(2, "tools/list")],
    "capability of another type": [hello(1, capabilities={"roots": []}), request(2, "ping")],
    "cursor": [hello(1), request(2, "tools/list", cursor="x"), request(3, "tools/list")],
    "the same id": [hello(1), request(1, "tools/list"), request(1, "prompts/list")],
    "an id in use": [
        hello(1),
        request(2, "tools/call", name="list_jobs", arguments={}),
        request("2", "tools/list"),
        request(2, "tools/list"),
    ],
    "unusual ids": [
        hello("\u00e9\u2028"),
        request(2**53, "ping"),
        request(-1, "ping"),
        request("", "ping"),
    ],
    "ids that are none": [hello(1.0), request(True, "ping"), request(None, "ping")],
    "half a surrogate pair": [hello(1), b'{"jsonrpc":"2.0","id":"\\ud83d","method":"ping"}\n'],
    "repeated member": [hello(1), b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}\n'],
    "request and answer": [hello(1), {**request(2, "ping"), "result": {}}, request(3, "ping")],
    "not a number": [hello(1), b'{"jsonrpc":"2.0","id":2,"method":"ping","params":{"x":NaN}}\n'],
    "huge number": [b'{"jsonrpc":"2.0","id":' + b"9" * 5000 + b',"method":"ping"}\n', hello(1)],
    "batch": [b"[" + json.dumps(hello(1)).encode() + b"]\n", hello(2), request(3, "tools/list")],
    "garbage": [b"\n", b"not json\n", hello(1), b"\xff\xfe\n", request(2, "tools/list")],
    "byte order mark": [b"\xef\xbb\xbf" + json.dumps(hello(1)).encode() + b"\r\n"],
    "deep": [b'{"jsonrpc":"2.0","id":1,"method":' + b"[" * 500 + b"\n", hello(2)],
    "no parameters": [hello(1), {**request(2, "tools/list"), "params": None}],
    "a list of parameters": [hello(1), {**request(2, "tools/list"), "params": []}],
    "other version": [{**request(1, "ping"), "jsonrpc": "1.0"}, hello(2)],
    "key as a name": [hello(1), request(2, "tools/list", name="pd_1", uri="x")],
    "reserved": [hello(1), request(2, "tools/list", _meta={f"{PREFIX}x": 1})],
    "token of another type": [hello(1), request(2, "tools/list", _meta={"progressToken": []})],
}


@pytest.mark.parametrize("messages", UNUSUAL.values(), ids=UNUSUAL)
def test_an_unusual_beginning_is_the_same_with_the_desk(
    messages: list[Message | bytes], answers: Message
) -> None:
    """What is not certain is left to the SDK (ours)."""
    anyio.run(same_with_and_without, Server(), messages, answers)


POOL: list[Callable[[int], Message | bytes]] = [
    *(partial(lambda revision, id: hello(id, revision), each) for each in [*HANDSHAKE, "0"]),
    lambda id: hello(id, capabilities={"tasks": {"list": {}, "requests": {"tools": {}}}}),
    lambda id: hello(id, capabilities={"sampling": 1}),
    lambda id: INITIALIZED,
    lambda id: request(id, "ping"),
    lambda id: modern(id, "ping"),
    lambda id: modern(id, "server/discover"),
    *(partial(lambda method, id: request(id, method), each) for each in LISTS),
    *(partial(lambda method, id: modern(id, method), each) for each in LISTS),
    lambda id: request(id, "tools/call", name="list_jobs", arguments={}),
    lambda id: modern(id, "tools/call", name="nothing", arguments={}),
    lambda id: request(id, "logging/setLevel", level="info"),
    lambda id: request(str(id), "tools/list"),
    lambda id: b"garbage\n",
    lambda id: b"\n",
]


def test_random_interleavings_are_the_same_with_the_desk(answers: Message) -> None:
    """Nothing is lost, nothing is answered twice, and the SDK gets all in order (ours).

    Without a cancellation, which may come before or after an answer.
    """

    async def check(messages: list[Message | bytes], later: int) -> None:
        await same_with_and_without(server, messages, answers, later)

    server = Server()
    pool = st.lists(st.tuples(st.sampled_from(POOL), st.integers(1, 12)), min_size=1, max_size=9)

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(pool, st.integers(0, 9))
    def interleavings(
        parts: list[tuple[Callable[[int], Message | bytes], int]], later: int
    ) -> None:
        messages = [make(id) for make, id in parts]
        anyio.run(check, messages, min(later, len(messages)))

    interleavings()


@pytest.mark.parametrize("method", ["tools/list", "tools/call"])
def test_a_cancelled_request_has_at_most_one_answer(method: str, answers: Message) -> None:
    """A cancellation may come after the answer (documented); then it changes nothing (ours)."""
    params = {"name": "list_jobs", "arguments": {}} if method == "tools/call" else {}
    cancel = {"method": "notifications/cancelled", "params": {"requestId": 2}}
    messages = [hello(1), request(2, method, **params), {"jsonrpc": "2.0", **cancel}]
    messages += [request(3, "ping")]

    talk = anyio.run(Server().talk, as_lines(messages), answers)

    assert [answer["id"] for answer in talk.answers if answer["id"] != 2] == [1, 3]
    assert len([answer for answer in talk.answers if answer["id"] == 2]) <= 1


# The snapshot


def test_the_shipped_answers_are_those_of_the_sdk() -> None:
    """A stale file would make hosts show tools that are not there (ours)."""
    shipped = Path(SHIPPED).read_text("utf-8")
    own = installed_versions(sys.path)
    fits = own in [each for entry in json.loads(shipped)["snapshots"] for each in entry["versions"]]
    written = front_desk_json() if Snapshots({}, sys.path).has_media() else shipped

    assert not fits or written == shipped, f"Run `{COMMAND}` and review the difference."


def test_the_shipped_answers_fit_the_pinned_releases() -> None:
    """CI, which installs these, compares the answers (ours)."""
    (entry,) = json.loads(Path(SHIPPED).read_text("utf-8"))["snapshots"]
    fitted = [{name: each[name] for name in ("mcp", "pydantic")} for each in entry["versions"]]

    assert pinned_releases() in fitted, f"Run `{COMMAND}`."


def test_the_versions_are_those_of_the_metadata() -> None:
    """They are read from the names of folders, because that is faster (ours)."""
    assert installed_versions(sys.path) == {name: version(name) for name in snapshot.PACKAGES}


OTHER = {
    "PIXELDOJO_API_KEY": "pd_0123456789",
    "PIXELDOJO_API_BASE": "http://127.0.0.1:9/api/v1",
    "WAN_MCP_LOG_LEVEL": "ERROR",
    "WAN_MCP_DATA_DIR": "/tmp/other",
    "WAN_MCP_LEDGER_FILESYSTEM": "nfs",
    "WAN_MCP_MAX_CREDITS_PER_JOB": "1",
    "WAN_MCP_MAX_CREDITS_PER_DAY": "1",
    "WAN_MCP_MAX_IN_FLIGHT": "1",
    "WAN_MCP_MAX_SUBMITS_PER_MINUTE": "1",
    "WAN_MCP_CONFIRM_ABOVE": "1",
    "WAN_MCP_PREFLIGHT": "off",
    "WAN_MCP_ARCHIVE": "off",
    "WAN_MCP_VIDEO_DIR": "/tmp/films",
    "WAN_MCP_VIDEO_LIMIT_GB": "1",
    "WAN_MCP_POSTER": "off",
}
"""Each setting with another value than its default."""


def by_method(data: Message) -> dict[str, list[object]]:
    """The answers to each method, over all revisions."""
    found: dict[str, list[object]] = {}
    for places in data["revisions"].values():
        for method, place in places.items():
            found.setdefault(method, []).append(data["results"][place])
    return found


def test_every_setting_that_changes_an_answer_is_known(answers: Message, tmp_path: Path) -> None:
    """With such a setting the shipped answer would be wrong (ours)."""
    assert set(OTHER) == {str(field.alias) for field in Settings.model_fields.values()}
    usual = by_method(answers)
    depends: dict[str, set[str]] = {}
    for name, value in OTHER.items():
        changed = by_method(anyio.run(early_answers, Settings.read({name: value}, tmp_path)))
        for method in usual:
            if changed[method] != usual[method]:
                depends.setdefault(method, set()).add(name)

    known = {method: {*names} - {"WAN_MCP_ENV_FILE"} for method, names in DEPENDS.items()}
    assert depends == known
    assert all("WAN_MCP_ENV_FILE" in names for names in DEPENDS.values())


@pytest.mark.parametrize(
    ("name", "value", "withheld"),
    [
        ("PIXELDOJO_API_BASE", "http://127.0.0.1:1/api/v1", ["resources/list"]),
        ("WAN_MCP_ARCHIVE", "off", ["resources/templates/list"]),
        ("WAN_MCP_ENV_FILE", "x", ["resources/list", "resources/templates/list"]),
        ("WAN_MCP_ARCHIVE", " ", []),
        ("WAN_MCP_ARCHIVE", "${user_config.archive}", []),
    ],
)
def test_an_answer_that_a_setting_changes_is_left_to_the_sdk(
    name: str, value: str, withheld: list[str]
) -> None:
    """The desk does not read the settings (ours)."""
    found = Snapshots({name: value}, sys.path).find()
    usual = Snapshots({}, sys.path).find()
    if found is None or usual is None:
        pytest.skip("no shipped answers fit these releases")

    missing = {each for each in LISTS if found.result(MODERN, each) is None}
    assert missing - {each for each in LISTS if usual.result(MODERN, each) is None} == {*withheld}


@pytest.fixture
def kept(tmp_path: Path) -> Snapshots:
    """A user's own answers, without shipped ones."""
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    return Snapshots(home, sys.path, shipped=str(tmp_path / "none"))


def file_of(snapshots: Snapshots) -> Path:
    path = snapshots._path_of_kept()
    assert path is not None
    return Path(path)


def test_answers_are_kept_for_the_next_start(kept: Snapshots, answers: Message) -> None:
    """In a file that only its user can read, and that does not grow (ours)."""
    assert kept.find() is None
    for _ in range(snapshot.MAX_KEPT + 2):
        kept.keep(answers)
    found = kept.find()

    assert found is not None
    assert found.result(MODERN, "tools/list") == by_method(answers)["tools/list"][-1]
    assert file_of(kept).stat().st_mode & 0o777 == 0o600 or sys.platform == "win32"
    assert len(json.loads(file_of(kept).read_text("utf-8"))["snapshots"]) == 1
    assert [path.name for path in file_of(kept).parent.iterdir()] == [KEPT]


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"snapshots":1}', '{"snapshots":[1,{"versions":2}]}', "[" * 9_999]
)
def test_a_damaged_file_is_as_none(content: str, kept: Snapshots, answers: Message) -> None:
    """It is only a copy (ours)."""
    kept.keep(answers)
    file_of(kept).write_text(content)

    assert kept.find() is None
    kept.keep(answers)
    assert kept.find() is not None


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_a_file_that_others_can_write_is_not_read(kept: Snapshots, answers: Message) -> None:
    """What it says is what a model reads about the tools (ours)."""
    kept.keep(answers)
    file_of(kept).chmod(0o622)

    assert kept.find() is None


def test_answers_of_other_versions_are_not_used(
    kept: Snapshots, answers: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another version of the SDK may answer otherwise (ours)."""
    kept.keep(answers)
    monkeypatch.setattr(kept, "_versions", {**(kept._versions or {}), "mcp": "2.99"})

    assert kept.find() is None


def test_without_a_home_folder_nothing_is_kept(answers: Message, tmp_path: Path) -> None:
    """Some hosts pass no environment at all (observed elsewhere)."""
    Snapshots({}, sys.path, shipped=str(tmp_path / "none")).keep(answers)


def test_a_wrong_answer_is_reported_and_not_given_again(
    kept: Snapshots, answers: Message, caplog: pytest.LogCaptureFixture
) -> None:
    """The SDK decides, and its answer is kept instead (ours)."""
    stale = json.loads(json.dumps(answers))
    place = stale["revisions"][HANDSHAKE[2]]["prompts/list"]
    stale["results"][place]["prompts"] = []
    messages = as_lines([hello(1), request(2, "tools/list"), request(3, "prompts/list")])

    talk = anyio.run(Server().talk, messages, stale, 0, kept)
    found = kept.find()

    assert [answer["id"] for answer in talk.answers] == [1, 2, 3]
    assert "prompts/list" in caplog.text
    assert found is not None
    assert found.result(HANDSHAKE[2], "prompts/list") == by_method(answers)["prompts/list"][0]


def test_what_the_sdk_answers_is_kept_when_nothing_fits(kept: Snapshots, answers: Message) -> None:
    """So the next start is fast (ours)."""
    anyio.run(Server().talk, as_lines([hello(1)]), None, 0, kept)
    found = kept.find()

    assert found is not None
    assert found.result(MODERN, "server/discover") == by_method(answers)["server/discover"][0]


# The program


def program(folder: Path, *messages: Message, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the stdio server to its end, with packages of `folder` before all others."""
    root = str(Path(stdio.__file__).parents[2])
    names = ("PATH", "SYSTEMROOT")
    environment = {
        **{name: os.environ[name] for name in names if name in os.environ},
        "PYTHONPATH": os.pathsep.join([str(folder), root]),
        "WAN_MCP_DATA_DIR": str(folder / "data"),
        **variables,
    }
    return subprocess.run(
        [sys.executable, "-m", "wan_mcp"],
        input=b"".join(as_lines(messages)).decode(),
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder,
        check=False,
        timeout=SLOW_MACHINE_SECONDS,
    )


def test_a_package_that_cannot_be_imported_ends_the_program_with_a_sentence(
    tmp_path: Path,
) -> None:
    """A traceback tells the user of a host nothing (ours)."""
    (tmp_path / "httpx2.py").write_text("raise ImportError('half\\ninstalled')")

    ended = program(tmp_path, hello(1))

    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("wan-mcp: cannot start")
    assert "half installed" in line


def test_a_wrong_setting_ends_the_program_also_after_the_first_answers(tmp_path: Path) -> None:
    """One line and exit code 2, whenever it is found (ours)."""
    ended = program(tmp_path, hello(1), request(2, "tools/list"), WAN_MCP_ARCHIVE="perhaps")

    assert ended.returncode == 2
    assert ended.stderr == "wan-mcp: WAN_MCP_ARCHIVE: must be on or off\n"
    if Snapshots({}, sys.path).find() is not None:
        assert [json.loads(line)["id"] for line in ended.stdout.splitlines()] == [1, 2]


# The thread


def test_a_client_that_no_longer_reads_ends_the_desk_quietly(answers: Message) -> None:
    """The answers then meet a broken pipe (ours)."""
    stdin, to_server = os.pipe()
    from_server, stdout = os.pipe()
    os.close(from_server)
    desk = FrontDesk(stdin, stdout)
    desk._conversation = Conversation(Snapshot(answers))
    for line in as_lines([hello(1), request(2, "tools/list")]):
        desk._take(line)
    for end in (stdin, to_server, stdout):
        os.close(end)

    assert desk.client_left
    assert [answer is not None for _, answer in desk.hand_over(print)] == [True, False]


def test_no_more_is_answered_than_a_pipe_holds(answers: Message) -> None:
    """A client that writes first and reads later must not block the desk (ours)."""
    stdin, to_server = os.pipe()
    from_server, stdout = os.pipe()
    desk = FrontDesk(stdin, stdout)
    desk._conversation = Conversation(Snapshot(answers))
    for line in as_lines([hello(0), *(request(id, "tools/list") for id in range(1, 50))]):
        desk._take(line)
    early = desk.hand_over(print)
    for end in (stdin, to_server, from_server, stdout):
        os.close(end)

    answered = [answer for _, answer in early if answer]
    assert len(early) == 50
    assert 1 < len(answered) < 50
    assert sum(map(len, answered)) <= desk_module.MAX_ANSWERED_BYTES
