"""The command line: exit codes, and one plain line where something is wrong."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any, NoReturn

import pytest

from wan_mcp.__main__ import TERMINAL_HINT, main
from wan_mcp.tenants.key_page import KeyPage
from wan_mcp.tenants.keys import KeyRing

SECRET = "pd_canary_7f3a"
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}

SLOW_MACHINE_SECONDS = 600
"""A bound on what could hang; no claim about speed."""

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


@dataclass
class Ended:
    """A program that has ended."""

    code: int
    stdout: str
    stderr: str

    def complaint(self) -> str:
        """The one line of a program that could not start."""
        assert self.code == 2
        assert self.stdout == ""
        assert self.stderr.isascii()
        assert self.stderr.startswith("wan-mcp: ")
        assert self.stderr.splitlines() == [self.stderr.rstrip()]
        assert SECRET not in self.stderr
        return self.stderr


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without a .env file, and an environment without settings."""
    kept = "WAN_MCP_DATA_DIR"  # the ledger must not be the developer's
    for name in os.environ:
        if name.startswith(("WAN_MCP_", "PIXELDOJO_")) and name != kept:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """Runs the program with arguments, in this process."""

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["wan-mcp", *arguments])
        try:
            code = main()
        except SystemExit as ending:  # argparse, after --help and --version
            code = int(ending.code or 0)
        return Ended(code, *capsys.readouterr())

    return run


def server(stdin: bytes = b"") -> Ended:
    """Run the stdio server to its end, as a host starts it."""
    command = [sys.executable, "-m", "wan_mcp"]
    ended = subprocess.run(
        command, input=stdin, capture_output=True, timeout=SLOW_MACHINE_SECONDS, check=False
    )
    return Ended(ended.returncode, ended.stdout.decode(), ended.stderr.decode())


@pytest.mark.parametrize("command", [("http", "--port", "0"), ("demo",), ("demo", "--live")])
def test_bad_setting_stops_every_command_with_one_line(
    command: tuple[str, ...], program: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A traceback tells the operator nothing and may hold secrets (ours)."""
    monkeypatch.setenv("WAN_MCP_LOG_LEVEL", SECRET)

    assert "WAN_MCP_LOG_LEVEL" in program(*command).complaint()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WAN_MCP_API_KEY", SECRET),
        ("PIXELDOJO_API_KEY", f"{SECRET} {SECRET}"),
        ("PIXELDOJO_API_BASE", f"https://user:{SECRET}@pixeldojo.ai"),
    ],
)
def test_bad_setting_stops_the_server_and_its_value_is_not_repeated(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hosts keep what is written to stderr (observed elsewhere)."""
    monkeypatch.setenv(name, value)

    assert name in server().complaint()


def test_without_stderr_the_exit_code_still_says_that_the_command_is_wrong(
    program: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python has none where whoever started the program closed it (documented)."""
    monkeypatch.setattr(sys, "stderr", None)

    assert program("demo", "--liv").code == 2


def test_without_stderr_a_server_over_http_goes_on_when_it_is_ready(
    program: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its address can be shown to nobody, which is no reason to end (ours)."""

    def ready(*_: object, announce: Callable[[str], None], **__: object) -> NoReturn:
        announce("http://127.0.0.1:1/mcp")
        sys.exit(0)

    monkeypatch.setattr("wan_mcp.cli.http_server.run_http", ready)
    monkeypatch.setattr(sys, "stderr", None)

    assert program("http", "--port", "0").code == 0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((SECRET,), "http, sandbox, demo"),
        (("--api-key", SECRET), "http, sandbox, demo"),
        (("--port", "1"), "http, sandbox, demo"),
        (("demo", f"--api-key={SECRET}"), "--api-key"),
        (("demo", "--api-key", SECRET), "--api-key"),
        (("demo", SECRET), "one of its words"),
        (("demo", "--liv"), "does not know --liv"),
        (("http", "--live"), "--live"),
        (("http", "--host", "0.0.0.0"), "--host"),
        (("http", "--port", "65536"), "--port"),
        (("sandbox", "--port", "-1"), "--port"),
        (("sandbox", "--credits", "nan"), "--credits"),
        (("demo", "--job-seconds", "soon"), "--job-seconds"),
    ],
)
def test_command_line_that_is_not_understood_ends_with_one_line(
    arguments: tuple[str, ...], named: str, program: Callable[..., Ended]
) -> None:
    """The message names the mistake and does not repeat what may be a key (ours)."""
    assert named in program(*arguments).complaint()


LEDGER = {"WAN_MCP_LEDGER_URL": "postgresql:///nowhere"}
RING = {"WAN_MCP_KEY_RING": f"first {base64.b64encode(bytes(32)).decode()}"}


@pytest.mark.parametrize("keys", ["on", "off"])
def test_command_knows_where_people_sign_in_on_the_page_for_keys(
    program: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, keys: str
) -> None:
    """All replicas seal with a ring that is made of their key ring, and is another one (ours)."""
    pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    trust, seen = tmp_path / "trust.toml", dict[str, Any]()
    issuer = 'issuer = "https://a.example"\nkey_page = { client_id = "a" }\n'
    trust.write_text(f'resource = "https://wan.example.com/team/mcp"\n[[issuers]]\n{issuer}')
    given = {"WAN_MCP_SIGN_IN": str(trust), "WAN_MCP_PERSONAL_KEYS": keys, **LEDGER, **RING}
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    def run(*_: object, sign_in: Any, **__: object) -> NoReturn:
        seen["ring"] = sign_in.ring
        sys.exit(0)

    monkeypatch.setattr("wan_mcp.cli.http_server.run_http", run)
    monkeypatch.setattr(
        "wan_mcp.cli.http_server.build_server", lambda _settings, **more: seen.update(more)
    )
    whole = KeyRing.read(RING["WAN_MCP_KEY_RING"])

    assert program("http", "--port", "0").code == 0
    page = KeyPage("https://wan.example.com/team/key", {"https://a.example": "a.example"})
    assert seen["key_page"] == (page if keys == "on" else None)
    assert not whole.opens(seen["ring"].seal("x", "y"), "y")
    assert whole.derived("page for keys").opens(seen["ring"].seal("x", "y"), "y")


@pytest.mark.parametrize(
    ("settings", "host", "named"),
    [
        ({"WAN_MCP_SIGN_IN": "tokens"}, "127.0.0.1", "WAN_MCP_LEDGER_URL"),
        ({"WAN_MCP_SIGN_IN": "tokens", **LEDGER}, "127.0.0.1", "WAN_MCP_KEY_RING_FILE"),
        ({"WAN_MCP_SIGN_IN": "trust.toml"}, "127.0.0.1", "the full path of a file"),
        (
            {"WAN_MCP_SIGN_IN": "tokens", **LEDGER, "WAN_MCP_KEY_RING": SECRET},
            "127.0.0.1",
            "WAN_MCP_KEY_RING",
        ),
        (
            {"WAN_MCP_SIGN_IN": str(Path(__file__).parent / "none"), **LEDGER, **RING},
            "127.0.0.1",
            "the file cannot be read",
        ),
        ({}, "0.0.0.0", "WAN_MCP_SIGN_IN"),
        ({"WAN_MCP_PERSONAL_KEYS": "on"}, "127.0.0.1", "only where WAN_MCP_SIGN_IN is set"),
        ({"WAN_MCP_SIGN_IN": "tokens"}, "wan.example.com", "must be an IP address"),
        ({"WAN_MCP_SIGN_IN": "tokens", **LEDGER, **RING}, "0.0.0.0", "WAN_MCP_ALLOWED_HOSTS"),
    ],
)
def test_server_for_people_that_cannot_know_them_ends_with_one_line(
    settings: dict[str, str],
    host: str,
    named: str,
    program: Callable[..., Ended],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody is let in by mistake, and no secret is repeated (ours)."""
    pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    for name, value in settings.items():
        monkeypatch.setenv(name, value)

    assert named in program("http", "--port", "0", "--host", host).complaint()


@pytest.mark.parametrize("missing", ["--video", "--image", "PIXELDOJO_API_KEY"])
def test_live_demo_names_what_it_lacks_before_it_asks(
    missing: str, program: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user must not be asked to pay for what cannot start (ours)."""
    given = {"--video": "https://example.com/v.mp4", "--image": "https://example.com/i.png"}
    words = [word for name, url in given.items() if name != missing for word in (name, url)]
    if missing != "PIXELDOJO_API_KEY":
        monkeypatch.setenv("PIXELDOJO_API_KEY", SECRET)

    assert missing in program("demo", "--live", *words).complaint()


LIVE = ("demo", "--live", "--image", "https://example.com/i.png", "--video")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("https://example.com/v.mp4", "--duration", "99"), "must be a whole number from 1 to 15"),
        (("https://10.0.0.1/v.mp4",), "a public https link to it"),
        (("clip.mp4",), "there is no file clip.mp4 here"),
        ((__file__,), "give its link, or set WAN_MCP_STORAGE_URL or WAN_MCP_PUBLIC_URL"),
    ],
)
def test_live_demo_checks_the_arguments_before_it_asks(
    words: tuple[str, ...],
    complaint: str,
    program: Callable[..., Ended],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A user must not be asked to pay for what will be refused (ours)."""
    monkeypatch.setenv("PIXELDOJO_API_KEY", SECRET)

    assert complaint in program(*LIVE, *words).complaint()


def test_live_demo_knows_the_readmes_key_for_an_example(
    program: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was copied together with the block around it (ours)."""
    monkeypatch.setenv("PIXELDOJO_API_KEY", "your-pixeldojo-key")

    complaint = program(*LIVE, "https://example.com/v.mp4").complaint()

    assert "still the example from the documents" in complaint


@pytest.mark.parametrize("option", ["--video", "--image"])
def test_demo_names_the_file_that_is_not_there(option: str, program: Callable[..., Ended]) -> None:
    """Its name is likely misspelt, and nothing need be started to see that (ours)."""
    complaint = program("demo", option, "clip.mp4").complaint()

    assert complaint.startswith("wan-mcp: there is no file clip.mp4 here")


def test_folder_that_cannot_be_made_is_reported_in_ascii(
    elsewhere: Path, program: Callable[..., Ended]
) -> None:
    """A console's code page may lack the letters of a path (observed elsewhere)."""
    (elsewhere / "Spaß").touch()

    assert "Spa\\xdf" in program("demo", "--folder", "Spaß/films").complaint()


@pytest.mark.parametrize("command", ["http", "sandbox"])
def test_taken_port_is_reported_in_one_line(command: str, program: Callable[..., Ended]) -> None:
    """The usual reason is a second copy of the same program (ours)."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        complaint = program(command, "--port", port).complaint()

    assert port in complaint


def test_version_is_the_packages_own(program: Callable[..., Ended]) -> None:
    """Bug reports need it (ours)."""
    ended = program("--version")

    assert (ended.code, ended.stdout) == (0, f"wan-mcp {version('wan-mcp')}\n")


def test_help_names_every_command(program: Callable[..., Ended]) -> None:
    """The list is how a person finds the sandbox (ours)."""
    ended = program("--help")

    assert ended.code == 0
    assert all(f"\n    {word} " in ended.stdout for word in ("http", "sandbox", "demo"))


def test_without_a_command_it_is_the_stdio_server_even_without_a_key() -> None:
    """Hosts start it without arguments; only the first call needs a key (ours)."""
    ended = server(stdin=json.dumps(INITIALIZE).encode() + b"\n")

    (line,) = ended.stdout.splitlines()
    info = json.loads(line)["result"]["serverInfo"]
    assert (info["name"], info["version"]) == ("wan-mcp", version("wan-mcp"))
    assert (ended.code, ended.stderr) == (0, "")


@posix_only
def test_terminal_shows_what_the_server_waits_for() -> None:
    """A silent server seems to hang; stdout is for the protocol and stays empty (ours)."""
    import pty

    person, terminal = pty.openpty()
    command = [sys.executable, "-m", "wan_mcp"]
    with subprocess.Popen(
        command, stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        os.close(terminal)
        assert process.stderr
        assert process.stdout
        hint = process.stderr.readline()
        os.write(person, b"\x04")  # Ctrl-D
        written, more = process.stdout.read(), process.stderr.read()
    os.close(person)

    assert hint == TERMINAL_HINT.encode()
    assert b"wan-mcp demo" in hint
    assert (written, more, process.returncode) == (b"", b"", 0)


def test_installed_command_is_the_same_program() -> None:
    """`wan-mcp` and `python -m wan_mcp` must not differ (ours)."""
    (script,) = entry_points(group="console_scripts", name="wan-mcp")

    assert script.value == "wan_mcp.__main__:main"


@posix_only
def test_interrupted_sandbox_ends_without_a_traceback() -> None:
    """Ctrl-C is how a sandbox ends (ours)."""
    command = [sys.executable, "-m", "wan_mcp", "sandbox", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as sandbox:
        assert sandbox.stderr
        while not sandbox.stderr.readline().startswith(b"PIXELDOJO_API_KEY="):
            assert sandbox.poll() is None
        sandbox.send_signal(signal.SIGINT)

        assert sandbox.stderr.read() == b""
        assert sandbox.wait(SLOW_MACHINE_SECONDS) == 130
