"""`wan-mcp demo`: one job from end to end, its output, and what it may spend."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from importlib import resources
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import httpx
import pytest
from mcp.client.stdio import StdioServerParameters
from mcp.server.mcpserver import MCPServer

from tests.virtual_time import VirtualTime, watched_threads
from wan_mcp.__main__ import main
from wan_mcp.cli.demo import SAVE_SECONDS, Demo, subprocess_server
from wan_mcp.cli.demo_sandbox import demo_sandbox
from wan_mcp.cli.own_inputs import with_full_paths
from wan_mcp.cli.progress_bar import ProgressBar
from wan_mcp.clock import Clock
from wan_mcp.sandbox import Fault, Sandbox, Terms
from wan_mcp.sandbox.http import faults
from wan_mcp.server import build_server
from wan_mcp.settings import Settings
from wan_mcp.storage.lending import Lending

pytestmark = pytest.mark.anyio
SLOW_MACHINE_SECONDS = 600
"""A bound on what could hang; no claim about speed."""
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")

VIDEO = "https://example.com/clip.mp4"
IMAGE = "https://example.com/face.png"
MODEL = "wan-2.2-replace"
WISH = {"video": VIDEO, "character_image": IMAGE}
REAL_KEY = "pd_canary_7f3a"
SAMPLE_VIDEO = (resources.files("wan_mcp.sandbox") / "media/result.mp4").read_bytes()

# Stands in for a server that dies while the job is going on.
SHORT_LIVED = """
import os
from mcp.server.mcpserver import MCPServer

server = MCPServer("short-lived")


@server.tool()
def replace_character(video: str, character_image: str) -> dict[str, str]:
    return {"status": "running", "job_id": "job_42", "charged": "yes"}


@server.tool()
def wait_for_job(job_id: str) -> None:
    os._exit(3)


server.run()
"""


@pytest.fixture
def time() -> Iterator[VirtualTime]:
    """The time of a sandbox and of the server in front of it; it passes by waiting only."""
    with watched_threads():
        yield VirtualTime(0.0)


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest, time: VirtualTime) -> object:
    """Virtual where the server is in this process."""
    return time.backend(sockets=True) if "live" in request.fixturenames else "asyncio"


@pytest.fixture
async def sandbox(time: VirtualTime) -> AsyncIterator[Sandbox]:
    """The PixelDojo at the address that is configured for `--live`."""
    async with Sandbox(
        Terms(pending_seconds=4, processing_seconds=16), clock=time.monotonic
    ) as sandbox:
        yield sandbox


@pytest.fixture
def connect(
    request: pytest.FixtureRequest, time: VirtualTime
) -> Callable[[Mapping[str, str]], MCPServer[Any]]:
    """The server in this process; with a sandbox that is too, on its time."""
    clock = time.clock() if "live" in request.fixturenames else Clock()

    def build(environment: Mapping[str, str]) -> MCPServer[Any]:
        return build_server(Settings.read(environment), local=True, clock=clock)

    return build


@pytest.fixture
def live(
    sandbox: Sandbox, connect: Callable[[Mapping[str, str]], MCPServer[Any]], tmp_path: Path
) -> Callable[..., Any]:
    """Runs a live demo on the sandbox; gives the exit code."""

    async def run(given: Mapping[str, Any] = WISH) -> int:
        environment = {
            "PIXELDOJO_API_BASE": sandbox.api_base,
            "PIXELDOJO_API_KEY": sandbox.key,
            "WAN_MCP_DATA_DIR": str(tmp_path / "data"),
            "WAN_MCP_PREFLIGHT": "off",  # nothing is behind the links
        }
        demo = Demo(given, folder=tmp_path, connect=connect)
        return await demo.live(Settings.read(environment), environment)

    return run


@pytest.fixture
def configured(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The user's environment: an account on the sandbox, and a proxy that cannot see it."""
    monkeypatch.setenv("PIXELDOJO_API_BASE", sandbox.api_base)
    monkeypatch.setenv("PIXELDOJO_API_KEY", sandbox.key)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.chdir(tmp_path)


async def command(*arguments: str, stdin: str | None, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run `wan-mcp demo` in a thread, as its own main program, with text on its stdin."""
    monkeypatch.setattr(sys, "argv", ["wan-mcp", "demo", *arguments])
    monkeypatch.setattr(sys, "stdin", None if stdin is None else io.StringIO(stdin))
    return await anyio.to_thread.run_sync(main)


def own_data(folder: Path) -> dict[str, str]:
    """An environment in which the demo keeps its data in the test's folder."""
    return {"WAN_MCP_DATA_DIR": str(folder / "data")}


def patient(folder: Path) -> dict[str, str]:
    """An environment whose servers wait for PixelDojo's answer however slow the machine is."""
    path = folder / "patient"
    path.mkdir()
    change = f"import wan_mcp.jobs\nwan_mcp.jobs.ANSWER_SECONDS = {SLOW_MACHINE_SECONDS}\n"
    (path / "sitecustomize.py").write_text(change)  # Python imports it when it starts (documented)
    return {"PYTHONPATH": str(path)}


def videos(folder: Path) -> list[Path]:
    """All saved videos in a folder; the parts of unfinished ones have other names."""
    return sorted(folder.glob("[0-9]*_job_*.mp4"))


def is_sandboxed(path: Path) -> bool:
    """Whether a video is the sandbox's sample, or (with PyAV) one that it made."""
    video = path.read_bytes()
    if find_spec("av") is None:
        return video == SAMPLE_VIDEO
    return video[4:8] == b"ftyp" and video != SAMPLE_VIDEO


async def test_sandbox_demo_saves_a_video_and_says_what_it_cost(
    connect: Callable[[Mapping[str, str]], MCPServer[Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last lines say where the video is, and that the job was make-believe (ours)."""
    monkeypatch.setattr("wan_mcp.jobs.ANSWER_SECONDS", SLOW_MACHINE_SECONDS)  # for the balance
    demo = Demo({}, folder=tmp_path, connect=connect)

    code = await demo.on_sandbox(own_data(tmp_path), job_seconds=0)

    output = capsys.readouterr().out
    assert code == 0
    (video,) = videos(tmp_path)
    assert is_sandboxed(video)
    assert f"Saved:   {video} ({video.stat().st_size:,} bytes)\n" in output
    assert "Video:   http://127.0.0.1:" in output
    assert "Credits: 10 spent, 90 left" in output
    assert "That was the sandbox" in output


@pytest.mark.usefixtures("configured")
async def test_demo_on_own_files_applies_every_parameter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole pipeline can be tried before it costs something (ours)."""
    av = pytest.importorskip("av", reason="the extra `media` is not installed")
    media = resources.files("wan_mcp.sandbox") / "media"
    wish = "--duration 3 --resolution 720 --frames-per-second 12 --job-seconds 0"
    files = ["--video", str(media / "clip.mp4"), "--image", str(media / "character.png")]

    code = await command(*files, *wish.split(), stdin=None, monkeypatch=monkeypatch)

    (video,) = videos(tmp_path)
    with av.open(video) as container:
        stream = container.streams.video[0]
        assert (code, stream.height, stream.average_rate) == (0, 720, 12)
        assert stream.frames == 36
        assert len(container.streams.audio) == 1


async def test_demo_on_own_files_goes_the_way_of_any_other_job(
    connect: Callable[[Mapping[str, str]], MCPServer[Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The file is read, copied, lent and fetched by the same code as in earnest (ours)."""
    pytest.importorskip("av", reason="the extra `media` is not installed")
    folder = tmp_path / "Videos"
    folder.mkdir()
    media = resources.files("wan_mcp.sandbox") / "media"
    (folder / "dance.mp4").write_bytes((media / "clip.mp4").read_bytes())
    (folder / "ana.png").write_bytes((media / "character.png").read_bytes())
    links: list[str] = []
    link = Lending.link

    async def noted(*given: Any) -> str:
        links.append(await link(*given))
        return links[-1]

    monkeypatch.setattr(Lending, "link", noted)
    monkeypatch.chdir(folder)
    demo = Demo(
        {"video": "dance.mp4#t=0,2", "character_image": "ana.png", "video_duration": 2},
        folder=tmp_path,
        connect=connect,
    )

    code = await demo.on_sandbox(own_data(tmp_path), job_seconds=0)

    (video,) = videos(tmp_path)
    assert (code, is_sandboxed(video)) == (0, True)
    assert [each[-4:] for each in links] == [".mp4", ".png"]
    assert all(each.startswith("http://127.0.0.1:") for each in links)


@pytest.mark.parametrize("way", ["{name}", "{folder}/{name}", "~/{name}", "{uri}/{name}"])
def test_a_path_of_any_form_that_is_typed_may_be_read(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell expands no ~ behind an equals sign, as in --video=~/clip.mp4 (documented)."""
    for name in ("HOME", "USERPROFILE", "SNAP_REAL_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.mp4").touch()
    typed = way.format(name="clip.mp4", folder=tmp_path, uri=tmp_path.as_uri())

    given, folders = with_full_paths({"video": f"{typed}#t=1"})

    assert folders == [tmp_path]
    assert given["video"] in (f"{tmp_path / 'clip.mp4'}#t=1", f"{tmp_path.as_uri()}/clip.mp4#t=1")


@pytest.mark.parametrize(
    ("given", "lends"),
    [
        ({"WAN_MCP_STORAGE_URL": "s3://mine/inputs"}, False),
        ({"WAN_MCP_PUBLIC_URL": "https://files.example.com"}, True),
    ],
)
async def test_demo_lends_files_on_loopback_unless_there_is_a_bucket(
    given: dict[str, str],
    lends: bool,
    connect: Callable[[Mapping[str, str]], MCPServer[Any]],
    tmp_path: Path,
) -> None:
    """The user's tunnel may lead to another server of the user's (ours)."""
    seen: list[Mapping[str, str]] = []

    def spy(environment: Mapping[str, str]) -> MCPServer[Any]:
        seen.append(environment)
        return connect(environment)

    await Demo({}, folder=tmp_path, connect=spy).on_sandbox(
        {**own_data(tmp_path), **given}, job_seconds=0
    )

    (environment,) = seen
    port = environment.get("WAN_MCP_PUBLIC_PORT")
    address = environment.get("WAN_MCP_PUBLIC_URL")
    assert address == (f"http://127.0.0.1:{port}" if lends else None)


async def test_sandbox_demo_neither_uses_nor_passes_on_the_users_account(
    connect: Callable[[Mapping[str, str]], MCPServer[Any]], tmp_path: Path
) -> None:
    """The real key goes to no other address; the rest of the environment is passed on (ours)."""
    seen: list[Mapping[str, str]] = []

    def spy(environment: Mapping[str, str]) -> MCPServer[Any]:
        seen.append(environment)
        return connect(environment)

    users = {
        "PIXELDOJO_API_KEY": REAL_KEY,
        "PIXELDOJO_API_BASE": "https://pixeldojo.ai/api/v1",
        "WAN_MCP_LOG_LEVEL": "ERROR",
        "WAN_MCP_DATA_DIR": str(tmp_path / "ledger of the user"),
        "PATH": os.defpath,
    }

    await Demo({}, folder=tmp_path, connect=spy).on_sandbox(users, job_seconds=0)

    (given,) = seen
    assert REAL_KEY not in given.values()
    assert given["PIXELDOJO_API_BASE"].startswith("http://127.0.0.1:")
    assert (given["WAN_MCP_LOG_LEVEL"], given["PATH"]) == ("ERROR", os.defpath)
    assert not (tmp_path / "ledger of the user" / "ledger").exists()
    assert given["WAN_MCP_DATA_DIR"] != users["WAN_MCP_DATA_DIR"]


@pytest.mark.usefixtures("configured")
async def test_agreed_live_demo_spends_exactly_one_charge(
    sandbox: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The one test of the real command with its real server process (ours)."""
    sandbox.terms = Terms(pending_seconds=0, processing_seconds=0)
    wish = "--duration 7 --resolution 720 --refert-num 5 --frames-per-second 24 --seed 11"
    files = ["--video", VIDEO, "--image", IMAGE, "--folder", "videos of mine/\u6620\u753b"]
    flags = ["--go-fast", "--no-merge-audio"]

    code = await command(
        "--live", *files, *wish.split(), *flags, stdin="y\n", monkeypatch=monkeypatch
    )

    output = capsys.readouterr().out
    (charge,) = sandbox.charges
    assert code == 0
    assert charge.body == {
        **WISH,
        "video_duration": 7,
        "resolution": "720",
        "refert_num": 5,
        "frames_per_second": 24,
        "seed": 11,
        "go_fast": True,
        "merge_audio": False,
    }
    assert f"Start one job at {sandbox.api_base} (about 10 credits)? [y/N]" in output
    (video,) = videos(tmp_path / "videos of mine" / "\u6620\u753b")
    assert charge.job_id in video.name
    assert f"Saved:   {video} (" in output
    assert "sample" not in output
    async with httpx.AsyncClient(trust_env=False) as client:
        served = await client.get(f"{sandbox.origin}/media/results/{charge.job_id}.mp4")
    assert video.read_bytes() == served.content


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize("answer", ["n\n", "\n", "yess\n", "", None])
async def test_live_demo_without_a_yes_sends_nothing(
    answer: str | None,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No is the default, also where nobody can answer (ours)."""
    code = await command(
        "--live", "--video", VIDEO, "--image", IMAGE, stdin=answer, monkeypatch=monkeypatch
    )

    output = capsys.readouterr().out
    assert code == 1
    assert "Nothing was sent and nothing was charged." in output
    assert sandbox.charges == []
    assert sandbox.seen("POST", "*") == []


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (faults.status(503), "PixelDojo could not say (HTTP 503)"),
        (faults.dropped(work=False), "PixelDojo could not be reached (connection broken)"),
        (faults.instead({"name": MODEL}), "PixelDojo's page names none"),
    ],
)
async def test_live_demo_says_why_the_price_is_not_known(
    page: Fault,
    reason: str,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """PixelDojo's own pages disagree about it, so no price is made up (documented)."""
    sandbox.fault("GET", "/api/v1/models/*", page)

    await command(
        "--live", "--video", VIDEO, "--image", IMAGE, stdin="n\n", monkeypatch=monkeypatch
    )

    assert f"(its price is not known: {reason})? [y/N]" in capsys.readouterr().out


async def test_link_longer_than_any_file_name_is_still_a_link(
    connect: Callable[[Mapping[str, str]], MCPServer[Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Signed links are long, and looking for a file of that name is an OSError (ours)."""
    wish = {"video": f"https://example.com/media/no-person.mp4?signature={'a' * 300}"}
    demo = Demo(wish, folder=tmp_path, connect=connect)

    code = await demo.on_sandbox(own_data(tmp_path), job_seconds=0)

    assert code == 1
    assert "PixelDojo reports that the job failed." in capsys.readouterr().out


async def test_demo_without_a_terminal_prints_each_message_once(
    live: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """The output does not repeat itself with every poll (ours)."""
    assert await live() == 0

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(set(lines))
    assert sum("processing" in line for line in lines) == 1


async def test_failed_job_ends_with_its_reason_and_no_file(
    live: Callable[..., Any],
    sandbox: Sandbox,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The job may stay charged, so the credits are printed, too (ours)."""
    code = await live({**WISH, "video": "https://example.com/media/no-person.mp4"})

    output = capsys.readouterr().out
    (job,) = sandbox.vendor.jobs.values()
    assert code == 1
    assert f"Job:     {job.id}" in output
    assert "PixelDojo reports that the job failed." in output
    assert "Credits: 10 spent, 90 left" in output
    assert videos(tmp_path) == []


async def test_wrong_argument_is_reported_in_the_words_of_the_tool(
    live: Callable[..., Any], sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the server checks arguments (ours)."""
    code = await live({**WISH, "video_duration": "99"})

    output = capsys.readouterr().out
    assert code == 1
    assert "video_duration must be a whole number from 1 to 15" in output
    assert sandbox.requests == []


async def test_repeated_live_demo_joins_the_job_that_is_paid(
    live: Callable[..., Any], sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """A user who starts it again after a crash wants the video that is paid (ours)."""
    await live()
    capsys.readouterr()

    code = await live()

    output = capsys.readouterr().out
    (charge,) = sandbox.charges
    assert code == 0
    assert f"Job:     {charge.job_id}\n         Nothing was bought" in output
    assert "Credits: nothing spent now, 10 before\n" in output


async def test_lost_answer_is_not_called_a_paid_job(
    live: Callable[..., Any], sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown outcome is reported as unknown (ours)."""
    sandbox.terms = Terms(list_exists=False)
    sandbox.fault("POST", "*", faults.dropped(work=True))

    code = await live()

    output = capsys.readouterr().out
    assert code == 1
    assert "outcome_unknown" in output
    assert "paid. Its id" not in output
    assert "Credits:" not in output


async def test_refused_wait_leaves_the_jobs_id_behind(
    live: Callable[..., Any], sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """The job is paid and goes on, whatever happens to the waiting (ours)."""
    sandbox.fault("GET", "/api/v1/jobs/*", faults.status(401), times=None)

    code = await live()

    (charge,) = sandbox.charges
    assert code == 1
    assert f"it is paid. Its id: {charge.job_id}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "fault", [faults.status(403, "expired"), faults.status(200, "<html>a login page</html>")]
)
async def test_video_that_cannot_be_saved_is_reported_with_its_link(
    fault: Fault,
    live: Callable[..., Any],
    sandbox: Sandbox,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The video is paid, so its link must not be lost; a web page is not a video (ours)."""
    sandbox.fault("GET", "/media/results/*", fault, times=None)

    code = await live()

    output = capsys.readouterr().out
    (charge,) = sandbox.charges
    assert code == 1
    assert f"Video:   {sandbox.origin}/media/results/{charge.job_id}.mp4\n" in output
    assert f"could not save the video within {SAVE_SECONDS:.0f} s" in output
    assert "Credits: 10 spent, 90 left" in output
    assert videos(tmp_path) == []


async def test_demo_waits_until_a_slow_storage_has_the_video(
    live: Callable[..., Any], sandbox: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wait of the server gives up after 15 s; what it has not saved would end with it (ours)."""
    sandbox.fault("GET", "/media/results/*", faults.status(403, "not yet"))

    assert await live() == 0

    (video,) = videos(tmp_path)
    assert f"Saved:   {video} (" in capsys.readouterr().out


async def test_server_that_does_not_start_is_reported_without_a_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken installation is the most common reason (ours)."""

    def broken(environment: Mapping[str, str]) -> StdioServerParameters:
        return StdioServerParameters(command=sys.executable, args=["-c", "raise SystemExit(1)"])

    demo = Demo(WISH, folder=tmp_path, connect=broken)
    with anyio.fail_after(SLOW_MACHINE_SECONDS):
        code = await demo.live(Settings.read({}, tmp_path), {})

    output = capfd.readouterr().out
    assert code == 1
    assert "The server has ended" in output
    assert "Nothing was sent and nothing was charged." in output


async def test_server_that_dies_in_the_wait_leaves_the_jobs_id(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A killed server does not stop PixelDojo (ours)."""
    script = tmp_path / "server.py"
    script.write_text(SHORT_LIVED)

    def short_lived(environment: Mapping[str, str]) -> StdioServerParameters:
        return StdioServerParameters(command=sys.executable, args=[str(script)])

    demo = Demo(WISH, folder=tmp_path, connect=short_lived)
    with anyio.fail_after(SLOW_MACHINE_SECONDS):
        code = await demo.live(Settings.read({}, tmp_path), {})

    output = capfd.readouterr().out
    assert code == 1
    assert "The server has ended" in output
    assert "Its id: job_42" in output


async def test_stop_during_the_submit_says_that_a_job_may_exist(
    live: Callable[..., Any], sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody knows then, and a second run could pay twice (ours)."""
    sandbox.fault("POST", "*", faults.hung(work=True))

    with anyio.fail_after(SLOW_MACHINE_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(live)
            await sandbox.until(lambda: bool(sandbox.charges))
            tasks.cancel_scope.cancel()

    assert "Stopped. A job may have been started and charged" in capsys.readouterr().out


@posix_only
async def test_interrupted_wait_says_that_the_job_goes_on(sandbox: Sandbox, tmp_path: Path) -> None:
    """Ctrl-C ends the demo, not the job at PixelDojo (ours)."""
    account = {"PIXELDOJO_API_BASE": sandbox.api_base, "PIXELDOJO_API_KEY": sandbox.key}
    words = ["demo", "--live", "--video", VIDEO, "--image", IMAGE, "--folder", str(tmp_path)]

    async with await anyio.open_process(
        [sys.executable, "-m", "wan_mcp", *words],
        env={**os.environ, **account, **patient(tmp_path)},
    ) as process:
        assert process.stdin
        assert process.stdout
        await process.stdin.send(b"y\n")
        output = b""
        with anyio.fail_after(SLOW_MACHINE_SECONDS):
            while b"\nJob: " not in output:
                output += await process.stdout.receive()
            process.send_signal(signal.SIGINT)
            async for chunk in process.stdout:
                output += chunk
            code = await process.wait()

    (charge,) = sandbox.charges
    assert code == 130
    assert f"Stopped. The job goes on at PixelDojo, and it is paid. Its id: {charge.job_id}" in (
        output.decode()
    )


async def test_stopped_sandbox_demo_claims_no_job_that_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The make-believe job ends with its sandbox (ours)."""
    reached = anyio.Event()

    def slow(environment: Mapping[str, str]) -> MCPServer[Any]:
        async def never(seconds: float) -> None:
            reached.set()
            await anyio.sleep_forever()

        return build_server(Settings.read(environment), clock=Clock(sleep=never))

    with anyio.fail_after(SLOW_MACHINE_SECONDS):
        async with anyio.create_task_group() as tasks:
            demo = Demo({}, folder=tmp_path, connect=slow)
            tasks.start_soon(demo.on_sandbox, own_data(tmp_path), 60)
            await reached.wait()
            tasks.cancel_scope.cancel()

    assert "Stopped. The sandbox is gone" in capsys.readouterr().out


def test_a_killed_demo_started_again_goes_on_with_its_job_and_pays_nothing(tmp_path: Path) -> None:
    """The ledger outlives the process, and so does the sandbox of the demo (ours)."""
    command = [sys.executable, "-m", "wan_mcp", "demo", "--job-seconds", "2"]
    own = {**own_data(tmp_path), **patient(tmp_path)}
    environment = {**os.environ, **own, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        (job,) = islice((line for line in first.stdout if line.startswith("Job:")), 1)
        first.kill()

    again = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SLOW_MACHINE_SECONDS,
    )

    assert again.returncode == 0, again.stderr
    assert "left behind by a demo that was killed" in again.stdout
    assert job in again.stdout
    assert "Credits: nothing spent now, 10 before" in again.stdout
    assert [is_sandboxed(video) for video in videos(tmp_path)] == [True]


async def test_second_demo_at_the_same_time_has_a_sandbox_of_its_own(tmp_path: Path) -> None:
    """The first one is alive, so there is nothing to take over, and nothing to stop (ours)."""
    async with (
        demo_sandbox(tmp_path / "demo", 0) as (first, its_data),
        demo_sandbox(tmp_path / "demo", 0) as (second, other_data),
    ):
        assert not second.resumed
        assert second.origin != first.origin
        assert other_data != its_data
    async with demo_sandbox(tmp_path / "demo", 0) as (third, _):
        assert not third.resumed


async def test_sandbox_that_died_with_its_demo_is_replaced(tmp_path: Path) -> None:
    """The note of a killed demo may name a sandbox that has ended since (ours)."""
    folder = tmp_path / "demo"
    folder.mkdir()
    note = {"api_base": "http://127.0.0.1:9/api/v1", "key": "pd_sandbox", "resumed": False}
    (folder / "sandbox.json").write_text(json.dumps(note))
    (folder / "data").mkdir()
    (folder / "data" / "old ledger").touch()

    async with demo_sandbox(folder, 0) as (sandbox, data):
        assert not sandbox.resumed
        assert not (data / "old ledger").exists()

    assert [path.name for path in folder.iterdir()] == ["lock"]


async def test_console_without_the_letters_gets_them_escaped(
    connect: Callable[[Mapping[str, str]], MCPServer[Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Windows consoles use old code pages (observed elsewhere)."""
    folder = tmp_path / "videos of \u6620\u753b"
    folder.mkdir()
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="cp437"))

    code = await Demo({}, folder=folder, connect=connect).on_sandbox(
        own_data(tmp_path), job_seconds=0
    )

    assert code == 0
    assert rb"videos of \u6620\u753b" in raw.getvalue()
    assert [is_sandboxed(video) for video in videos(folder)] == [True]


class Terminal(io.StringIO):
    """A terminal of 60 columns."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """What it shows at the end: each line as it was last written over."""
        shown = []
        for line in self.getvalue().split("\n"):
            cells = ""
            for text in line.split("\r"):
                cells = text + cells[len(text) :]
            shown.append(cells.rstrip())
        return shown


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Terminal]:
    """Replaces standard output, which pytest sets anew for each test, with a terminal."""

    def put() -> Terminal:
        monkeypatch.setenv("COLUMNS", "60")
        monkeypatch.setattr(sys, "stdout", terminal := Terminal())
        return terminal

    return put


def test_bar_shares_its_line_and_leaves_it_clean(watch: Callable[[], Terminal]) -> None:
    """A terminal shows one line during the wait, and none when it is over (ours)."""
    terminal = watch()
    bar = ProgressBar(expected=10)

    bar.show("2 min 5 s: the job is running; a long remark that no line of 60 could ever hold")
    during = terminal.lines()
    bar.write("done")

    assert during == ["[....................] 0:00 the job is running"]
    assert terminal.lines() == ["done", ""]
    assert "\x1b" not in terminal.getvalue()
    assert all(len(part) < 60 for part in terminal.getvalue().split("\r"))


@pytest.mark.parametrize(
    ("expected", "passed", "drawn"),
    [
        (10, 0, "...................."),
        (10, 5, "##########.........."),
        (10, 99, "####################"),
        (0, 1, "####################"),
        (None, 0, "#..................."),
        (None, 21, ".#.................."),
    ],
)
def test_bar_fills_where_the_end_is_known_and_otherwise_moves(
    expected: float | None,
    passed: int,
    drawn: str,
    watch: Callable[[], Terminal],
    time: VirtualTime,
) -> None:
    """PixelDojo reports no progress, so none is made up (documented)."""
    terminal = watch()
    bar = ProgressBar(expected=expected, clock=time.monotonic)
    time.now = passed

    bar.show("waiting")

    assert terminal.lines() == [f"[{drawn}] 0:{passed:02} waiting".replace("0:99", "1:39")]


async def test_bar_moves_between_two_polls(
    watch: Callable[[], Terminal], time: VirtualTime
) -> None:
    """Polls are up to 15 s apart; a bar that does not move looks dead (ours)."""
    terminal = watch()
    bar = ProgressBar(expected=None, clock=time.monotonic)
    bar.show("waiting")
    time.now = 3

    with anyio.fail_after(SLOW_MACHINE_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bar.keep_moving)
            while terminal.lines() != ["[...#................] 0:03 waiting"]:
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()


def test_server_is_started_with_nothing_from_the_users_folder(tmp_path: Path) -> None:
    """A file called http.py beside the videos must not stand in for a module (ours)."""
    server = subprocess_server({"A": "b"})
    (tmp_path / "wan_mcp.py").write_text("raise SystemExit('imported from the folder')")

    started = subprocess.run(
        [server.command, *server.args, "--version"],
        cwd=tmp_path,
        capture_output=True,
        timeout=SLOW_MACHINE_SECONDS,
        check=False,
    )

    assert (server.env, started.returncode) == ({"A": "b"}, 0)
