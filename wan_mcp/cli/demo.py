"""`wan-mcp demo`: a real MCP client, the real server as a subprocess, and one job end to end."""

import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPError
from mcp.types import TextContent

from wan_mcp.cli.demo_sandbox import Stage, rehearsal
from wan_mcp.cli.file_server import lent
from wan_mcp.cli.progress_bar import Screen
from wan_mcp.settings import Settings
from wan_mcp.web import addresses
from wan_mcp.wording import number

Peer = StdioServerParameters | MCPServer[Any]

_SAMPLE = (
    "That was the sandbox: the film is its sample, whatever the inputs were, and its link is gone "
    "now. With the extra wan-mcp[media] it is cut from your own clip."
)
_OWN = "That was the sandbox: it cut your clip and set your picture into it; its link is gone now."
_REAL = "A real one: wan-mcp demo --live --video URL --image URL"
SAVED_HERE = {"WAN_MCP_ARCHIVE": "off", "WAN_MCP_POSTER": "off"}
"""The demo saves the film itself, where it was told to."""


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
        self._status = ""
        self._text = ""

    async def on_sandbox(self, environment: Mapping[str, str], job_seconds: float) -> int:
        """Run on a sandbox of its own, free of charge; 0 when a film was saved, else 1.

        Args:
            environment: the user's; the account in it is neither used nor passed on.
            job_seconds: how long the sandbox takes for a job.

        Raises:
            BadSettings: a setting in the environment is wrong.
            FileNotFoundError: an input is neither a link nor a file.
        """
        self._sandboxed = True
        account = {"PIXELDOJO_API_BASE": "http://127.0.0.1/api/v1", "PIXELDOJO_API_KEY": "none"}
        settings = Settings.read({**environment, **account})
        # A ledger of its own: the user's would keep jobs of a vendor that is gone in a minute.
        with lent(self._given) as self._given:
            async with rehearsal(settings.data_folder / "demo", job_seconds) as stage:
                return await self._on(stage, environment, job_seconds)

    async def _on(self, stage: Stage, environment: Mapping[str, str], job_seconds: float) -> int:
        media = f"{stage.origin}/media"
        samples = {"video": f"{media}/clip.mp4", "character_image": f"{media}/character.png"}
        self._given = {**samples, **self._given}
        screen = Screen(expected=None if stage.resumed else job_seconds)
        left = ", left by a demo that was killed" if stage.resumed else ""
        screen.say(f"Sandbox: a make-believe PixelDojo on {stage.origin}, free of charge{left}")
        own = {
            "PIXELDOJO_API_BASE": stage.api_base,
            "PIXELDOJO_API_KEY": stage.key,
            "WAN_MCP_DATA_DIR": stage.folder,
            **SAVED_HERE,
        }
        return await self._run({**environment, **own}, screen)

    async def live(self, settings: Settings, environment: Mapping[str, str]) -> int:
        """Run on the configured PixelDojo, which costs credits; 0 when a film was saved, else 1."""
        account = {
            "PIXELDOJO_API_BASE": settings.api_base,
            "PIXELDOJO_API_KEY": settings.api_key.get_secret_value(),
            **SAVED_HERE,
        }
        return await self._run({**environment, **account}, Screen(expected=None))

    async def _run(self, environment: Mapping[str, str], screen: Screen) -> int:
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
        if self._status in {"completed", "failed"}:
            screen.say(f"Credits: {self._credits()}")
        elif self._status and "status" not in self._answer:  # it was the waiting that failed
            screen.say(self._left_behind())
        return 1

    async def _converse(self, server: Peer, screen: Screen) -> bool:
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

    async def _job(self, client: Client, screen: Screen) -> None:
        screen.say(f"Server:  wan-mcp, MCP {client.protocol_version}")
        await self._call(client, "replace_character", self._given, screen)
        if self._status:
            self._bought = self._answer["charged"] != "no"
            screen.say(f"Job:     {self._answer['job_id']}")
            if not self._bought:
                screen.say(f"         {self._answer['message']}")
        while self._answer.get("status") in {"submitting", "running"}:
            job_id = {"job_id": self._answer["job_id"]}
            await self._call(client, "wait_for_job", job_id, screen)

    async def _call(
        self, client: Client, tool: str, given: Mapping[str, Any], screen: Screen
    ) -> None:
        async def show(progress: float, total: float | None, message: str | None) -> None:
            screen.show(message or "")

        self._asked = True
        result = await client.call_tool(tool, dict(given), progress_callback=show)
        # The balance is told once, by the answer to the submit.
        self._answer = {**_money(self._answer), **(result.structured_content or {})}
        self._status = self._answer.get("status", self._status)
        blocks = (block.text for block in result.content if isinstance(block, TextContent))
        self._text = "\n".join(blocks)

    async def _keep(self, screen: Screen) -> int:
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
            screen.say(_SAMPLE if importlib.util.find_spec("av") is None else _OWN)
            screen.say(_REAL)
        return 0

    def _credits(self) -> str:
        cost, left = (
            number(self._answer[name]) if name in self._answer else "an unknown number"
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
        if self._status != "running":
            return (
                "A job may have been started and charged: look at the recent jobs of your account "
                "on pixeldojo.ai before you start another."
            )
        return (
            f"The job goes on at PixelDojo, and it is paid. Its id: {job_id}\n"
            f"To get its film, tell an assistant that has wan-mcp: wait for job {job_id}"
        )


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
