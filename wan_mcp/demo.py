"""`wan-mcp demo`: a real MCP client, the real server as a subprocess, and one job end to end."""

import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPError
from mcp.types import TextContent

from wan_mcp import addresses
from wan_mcp.settings import Settings

if TYPE_CHECKING:
    from wan_mcp.sandbox import Sandbox

Peer = StdioServerParameters | MCPServer[Any]

BAR_WIDTH = 20
REDRAW_SECONDS = 0.2

_SAMPLE = (
    "That was the sandbox: the film is its sample, whatever the inputs were, and its link is gone "
    "now.\nA real one: wan-mcp demo --live --video URL --image URL"
)


def subprocess_server(environment: Mapping[str, str]) -> StdioServerParameters:
    """The server in a process of its own, as a host starts it."""
    # -P: a file of the user's folder must not stand in for a module that the server imports.
    return StdioServerParameters(
        command=sys.executable, args=["-P", "-m", "wan_mcp"], env=dict(environment)
    )


class Demo:
    """One run of the demo.

    Args:
        given: arguments for replace_character, as they were typed: the server reads them.
        folder: where the film is saved; it exists.
        connect: the server to talk to, started in an environment.
    """

    def __init__(
        self,
        given: Mapping[str, Any],
        *,
        folder: Path,
        connect: Callable[[Mapping[str, str]], Peer] = subprocess_server,
    ) -> None:
        self._given = dict(given)
        self._folder = folder
        self._connect = connect
        self._sandboxed = False
        self._asked = False
        self._bought = False
        self._answer: dict[str, Any] = {}
        self._text = ""

    async def on_sandbox(self, environment: Mapping[str, str], job_seconds: float) -> int:
        """Run on a sandbox of its own, free of charge; 0 when a film was saved, else 1.

        Args:
            environment: the user's; the account in it is neither used nor passed on.
            job_seconds: how long the sandbox takes for a job.

        Raises:
            BadSettings: a setting in the environment is wrong.
        """
        from wan_mcp.sandbox import Sandbox, Terms

        self._sandboxed = True
        terms = Terms(pending_seconds=job_seconds / 5, processing_seconds=job_seconds * 4 / 5)
        # A ledger of its own: the user's would keep jobs of a vendor that is gone in a minute.
        folder = TemporaryDirectory(prefix="wan-mcp-demo-", ignore_cleanup_errors=True)
        with folder as data:
            async with Sandbox(terms) as sandbox:
                return await self._on(sandbox, {**environment, "WAN_MCP_DATA_DIR": data})

    async def _on(self, sandbox: "Sandbox", environment: Mapping[str, str]) -> int:
        samples = {"video": sandbox.clip_url, "character_image": sandbox.image_url}
        self._given = {**samples, **self._given}
        account = {"PIXELDOJO_API_BASE": sandbox.api_base, "PIXELDOJO_API_KEY": sandbox.key}
        own = {**environment, **account}
        Settings.read(own)
        terms = sandbox.terms
        screen = Screen(expected=terms.pending_seconds + terms.processing_seconds)
        screen.say(f"Sandbox: a make-believe PixelDojo on {sandbox.origin}, free of charge")
        return await self._run(own, screen)

    async def live(self, settings: Settings, environment: Mapping[str, str]) -> int:
        """Run on the configured PixelDojo, which costs credits; 0 when a film was saved, else 1."""
        account = {
            "PIXELDOJO_API_BASE": settings.api_base,
            "PIXELDOJO_API_KEY": settings.api_key.get_secret_value(),
        }
        return await self._run({**environment, **account}, Screen(expected=None))

    async def _run(self, environment: Mapping[str, str], screen: "Screen") -> int:
        try:
            lost = await self._converse(self._connect(environment), screen)
        except anyio.get_cancelled_exc_class():  # Ctrl-C
            screen.say(f"Stopped. {self._left_behind()}")
            raise
        if lost:
            screen.say(f"The server has gone; what it said is above. {self._left_behind()}")
            return 1
        if "video_url" in self._answer:
            return await self._keep(screen)
        screen.say(self._text)
        if "job_id" in self._answer:
            screen.say(f"Credits: {self._credits()}")
            if "status" not in self._answer:  # it was the waiting that failed
                screen.say(self._left_behind())
        return 1

    async def _converse(self, server: Peer, screen: "Screen") -> bool:
        """Talk to the server until the job has ended; whether the server went before that."""
        lost = False
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(screen.redraw)
                screen.show("Starting the server")
                async with Client(server) as client:
                    await self._job(client, screen)
                tasks.cancel_scope.cancel()
        except* MCPError:
            lost = True
        return lost

    async def _job(self, client: Client, screen: "Screen") -> None:
        screen.say(f"Server:  wan-mcp, MCP {client.protocol_version}")
        await self._call(client, "replace_character", self._given, screen)
        if "job_id" in self._answer:
            self._bought = self._answer["charged"] != "no"
            screen.say(f"Job:     {self._answer['job_id']}")
            if not self._bought:
                screen.say(f"         {self._answer['message']}")
        while self._answer.get("status") in {"submitting", "running"}:
            job_id = {"job_id": self._answer["job_id"]}
            await self._call(client, "wait_for_job", job_id, screen)

    async def _call(
        self, client: Client, tool: str, given: Mapping[str, Any], screen: "Screen"
    ) -> None:
        async def show(progress: float, total: float | None, message: str | None) -> None:
            screen.show(message or "")

        self._asked = True
        result = await client.call_tool(tool, dict(given), progress_callback=show)
        # The balance is told once, by the answer to the submit.
        self._answer = {**_money(self._answer), **(result.structured_content or {})}
        blocks = (block.text for block in result.content if isinstance(block, TextContent))
        self._text = "\n".join(blocks)

    async def _keep(self, screen: "Screen") -> int:
        url = self._answer["video_url"]
        screen.say(f"Film:    {url}")
        screen.show("Saving the film")
        try:
            path = await save(url, self._folder / f"wan-mcp-{self._answer['job_id']}.mp4")
        except OSError as exc:
            screen.say(f"The film could not be saved: {exc}.")
            screen.say("Fetch it from the link above soon: the link is temporary.")
            return 1
        screen.say(f"Saved:   {path} ({path.stat().st_size:,} bytes)")
        screen.say(f"Credits: {self._credits()}")
        if self._sandboxed:
            screen.say(_SAMPLE)
        return 0

    def _credits(self) -> str:
        cost, left = (
            f"{self._answer[name]:.10g}" if name in self._answer else "an unknown number"
            for name in ("credit_cost", "credits_remaining")
        )
        spent = f"{cost} spent" if self._bought else f"nothing spent now, {cost} before"
        return f"{spent}, {left} left"

    def _left_behind(self) -> str:
        """What goes on without us."""
        if self._sandboxed:
            return "The sandbox is gone, and its make-believe job with it."
        if not self._asked:
            return "Nothing was sent and nothing was charged."
        job_id = self._answer.get("job_id")
        if job_id is None:
            return (
                "A job may have been started and charged: look at the recent jobs of your account "
                "on pixeldojo.ai before you start another."
            )
        return (
            f"The job goes on at PixelDojo, and it is paid. Its id: {job_id}\n"
            f"To get its film, tell an assistant that has wan-mcp: wait for job {job_id}"
        )


class Screen:
    """Standard output: lines, and under them, on a terminal, a bar that moves while we wait.

    Where nobody watches a terminal, each new message is one line.

    Args:
        expected: seconds the whole will take, when that is known; else the bar only moves.
        clock: seconds that never go back.
    """

    def __init__(
        self, *, expected: float | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._expected = expected
        self._clock = clock
        self._start = clock()
        self._terminal = sys.stdout.isatty()
        self._message = ""
        self._shown: set[str] = set()

    def say(self, text: str) -> None:
        """Write lines; the bar makes room."""
        if self._message and self._terminal:
            _write("\r" + " " * _columns() + "\r")
        self._message = ""
        _write(text + "\n")

    def show(self, message: str) -> None:
        """Tell what goes on; the time at its beginning is left out, the bar has its own."""
        self._message = re.sub(r"^[\dhmins ]+: ", "", message)
        if self._terminal:
            self.draw()
        elif self._message not in self._shown:
            self._shown.add(self._message)
            _write(f"         {self._message}\n")

    async def redraw(self) -> None:
        """Keep the bar moving until cancelled."""
        while self._terminal:
            self.draw()
            await anyio.sleep(REDRAW_SECONDS)

    def draw(self) -> None:
        """Draw the bar in the last line, if there is something to tell."""
        if not self._message:
            return
        elapsed = int(self._clock() - self._start)
        line = f"[{self._bar(elapsed)}] {elapsed // 60}:{elapsed % 60:02} {self._message}"
        if len(line) > _columns():
            line = line.partition(";")[0]
        _write("\r" + line[: _columns()].ljust(_columns()))

    def _bar(self, elapsed: float) -> str:
        if self._expected is None:
            at = int(elapsed) % BAR_WIDTH
            return "#".rjust(at + 1, ".").ljust(BAR_WIDTH, ".")
        done = min(int(BAR_WIDTH * elapsed / max(self._expected, 1)), BAR_WIDTH)
        return ("#" * done).ljust(BAR_WIDTH, ".")


async def save(url: str, path: Path) -> Path:
    """Save a film; the path that was written, absolute. The API key is not sent along.

    Raises:
        OSError: the film could not be fetched or written whole; the text is half a sentence.
    """
    target = await anyio.Path(path).absolute()
    part = target.with_suffix(".part")
    try:
        await _download(url, part)
        return Path(await part.replace(target))
    finally:
        with anyio.CancelScope(shield=True):
            await part.unlink(missing_ok=True)


async def _download(url: str, part: anyio.Path) -> None:
    import ssl

    import httpx
    import truststore

    trust = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    direct = addresses.is_loopback(urlsplit(url).hostname or "")  # no proxy can see that
    try:
        async with (
            httpx.AsyncClient(
                verify=trust, trust_env=not direct, follow_redirects=True, timeout=30
            ) as client,
            client.stream("GET", url) as film,
        ):
            kind = film.headers.get("content-type", "")
            if not film.is_success or kind.startswith(("text/", "application/json")):
                raise OSError(f"its host answered HTTP {film.status_code}, {kind or 'no type'}")
            async with await part.open("wb") as file:
                async for chunk in film.aiter_bytes():
                    await file.write(chunk)
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise OSError(f"{type(exc).__name__} while it was fetched") from exc


def _money(answer: Mapping[str, Any]) -> dict[str, Any]:
    names = ("job_id", "credit_cost", "credits_remaining")
    return {name: answer[name] for name in names if name in answer}


def _columns() -> int:
    return shutil.get_terminal_size().columns - 1  # the last one would wrap on some consoles


def _write(text: str) -> None:
    encoding = sys.stdout.encoding or "ascii"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()
