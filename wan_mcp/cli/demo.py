"""`wan-mcp demo`: a real MCP client, the real server as a subprocess, and one job end to end."""

import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPError
from mcp.types import TextContent

from wan_mcp.cli.demo_sandbox import demo_sandbox
from wan_mcp.cli.own_inputs import allowed, lent_on_loopback, with_full_paths
from wan_mcp.cli.progress_bar import ProgressBar
from wan_mcp.settings import Settings
from wan_mcp.wording import number

Peer = StdioServerParameters | MCPServer[Any]

SAVE_SECONDS = 120.0
"""How long the demo waits for the server to save the video; the server tries again after 60 s."""
SAVE_POLL_SECONDS = 1.0
"""How often the demo asks whether the video is saved; the server answers from its ledger."""

_SAMPLE = (
    "That was the sandbox: the video is its sample, whatever the inputs were, and its link no "
    "longer works. With the extra wan-mcp[media] it is cut from your own video."
)
_OWN = (
    "That was the sandbox: it cut your video and set your image into it; its link no longer works."
)
_REAL = "A real one: wan-mcp demo --live --video URL --image URL"


def subprocess_server(environment: Mapping[str, str]) -> StdioServerParameters:
    """The server in a process of its own, as a host starts it."""
    # -P: a file in the user's folder must not be imported in place of a module.
    return StdioServerParameters(
        command=sys.executable, args=["-P", "-m", "wan_mcp"], env=dict(environment)
    )


class Demo:
    """One run of the demo.

    Args:
        given: arguments for replace_character, as they were typed; the server checks them.
        folder: where the server saves the video; it exists.
        connect: returns the server to talk to, for an environment.

    Raises:
        FileNotFoundError: an input is neither a link nor a file.
    """

    def __init__(
        self,
        given: Mapping[str, Any],
        *,
        folder: Path,
        connect: Callable[[Mapping[str, str]], Peer] = subprocess_server,
    ) -> None:
        self._given, folders = with_full_paths(given)
        self._connect = connect
        self._settings = {
            **allowed(folders),
            "WAN_MCP_ARCHIVE": "on",
            "WAN_MCP_VIDEO_DIR": str(folder.absolute()),
            "WAN_MCP_VIDEO_LIMIT_GB": "1e9",  # no video in that folder is ever deleted
            "WAN_MCP_POSTER": "off",
        }
        self._sandboxed = False
        self._asked = False
        self._bought = False
        self._answer: dict[str, Any] = {}
        self._status = ""
        self._text = ""

    async def on_sandbox(self, environment: Mapping[str, str], job_seconds: float) -> int:
        """Run on a sandbox of its own, free of charge. Returns 0 if a video was saved, else 1.

        Args:
            environment: that of the user; the account in it is neither used nor passed on.
            job_seconds: how long the sandbox takes for a job.

        Raises:
            BadSettings: a setting in the environment is wrong.
        """
        self._sandboxed = True
        account = {"PIXELDOJO_API_BASE": "http://127.0.0.1/api/v1", "PIXELDOJO_API_KEY": "none"}
        settings = Settings.read({**environment, **account})
        own = settings.data_dir or settings.data_places.usual
        folder = own and own / "demo"
        async with demo_sandbox(folder, job_seconds) as (sandbox, data):
            samples = {
                "video": f"{sandbox.origin}/media/clip.mp4",
                "character_image": f"{sandbox.origin}/media/character.png",
            }
            self._given = {**samples, **self._given}
            bar = ProgressBar(expected=None if sandbox.resumed else job_seconds)
            left = ", left behind by a demo that was killed" if sandbox.resumed else ""
            bar.write(f"Sandbox: a make-believe PixelDojo on {sandbox.origin}, free{left}")
            account = {
                "PIXELDOJO_API_BASE": sandbox.api_base,
                "PIXELDOJO_API_KEY": sandbox.key,
                # Not the user's ledger: it would keep jobs of a PixelDojo that is soon gone.
                "WAN_MCP_DATA_DIR": str(data.absolute()),
            }
            if settings.storage_url is None or settings.public_url is not None:
                account |= lent_on_loopback()
            return await self._run({**environment, **account}, bar)

    async def live(self, settings: Settings, environment: Mapping[str, str]) -> int:
        """Run on the configured PixelDojo, for credits. Returns 0 if a video was saved, else 1."""
        account = {
            "PIXELDOJO_API_BASE": settings.api_base,
            "PIXELDOJO_API_KEY": settings.api_key.get_secret_value(),
        }
        return await self._run({**environment, **account}, ProgressBar(expected=None))

    async def _run(self, environment: Mapping[str, str], bar: ProgressBar) -> int:
        server = self._connect({**environment, **self._settings})
        try:
            lost = await self._converse(server, bar)
        except anyio.get_cancelled_exc_class():  # Ctrl-C
            bar.write(f"Stopped. {self._left_behind()}")
            raise
        if lost:
            bar.write(f"The server has ended; its messages are above. {self._left_behind()}")
            return 1
        if "video_url" in self._answer:
            return self._report_video(bar)
        bar.write(self._text)
        if self._status in {"completed", "failed"}:
            bar.write(f"Credits: {self._credits()}")
        elif self._status and "status" not in self._answer:  # the wait failed, and not the job
            bar.write(self._left_behind())
        return 1

    async def _converse(self, server: Peer, bar: ProgressBar) -> bool:
        """Talk to the server until the job is over. Returns whether the server ended first."""
        lost = False
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(bar.keep_moving)
                bar.show("Starting the server")
                async with Client(server) as client:
                    await self._job(client, bar)
                    await self._video(client, bar)
                tasks.cancel_scope.cancel()
        except* MCPError:
            lost = True
        return lost

    async def _job(self, client: Client, bar: ProgressBar) -> None:
        bar.write(f"Server:  wan-mcp, MCP {client.protocol_version}")
        await self._call(client, "replace_character", self._given, bar)
        if self._status:
            self._bought = self._answer["charged"] != "no"
            bar.write(f"Job:     {self._answer['job_id']}")
            if not self._bought:
                bar.write(f"         {self._answer['message']}")
        while self._answer.get("status") in {"queued", "submitting", "running"}:
            await self._ask("wait_for_job", client, bar)

    async def _video(self, client: Client, bar: ProgressBar) -> None:
        """Wait until the server has saved the video, because saving ends with the server."""
        if "video_url" not in self._answer:
            return
        bar.write(f"Video:   {self._answer['video_url']}")
        with anyio.move_on_after(SAVE_SECONDS):
            while "saved_path" not in self._answer:
                bar.show("Saving the video")
                await anyio.sleep(SAVE_POLL_SECONDS)
                await self._ask("get_job_status", client, bar)

    async def _ask(self, tool: str, client: Client, bar: ProgressBar) -> None:
        await self._call(client, tool, {"job_id": self._answer["job_id"]}, bar)

    async def _call(
        self, client: Client, tool: str, given: Mapping[str, Any], bar: ProgressBar
    ) -> None:
        async def show(progress: float, total: float | None, message: str | None) -> None:
            bar.show(message or "")

        self._asked = True
        result = await client.call_tool(tool, dict(given), progress_callback=show)
        # Only the answer to the submit has the balance.
        self._answer = {**_lasting(self._answer), **(result.structured_content or {})}
        self._status = self._answer.get("status", self._status)
        blocks = (block.text for block in result.content if isinstance(block, TextContent))
        self._text = "\n".join(blocks)

    def _report_video(self, bar: ProgressBar) -> int:
        saved = "saved_path" in self._answer
        if saved:
            bar.write(f"Saved:   {self._answer['saved_path']} ({self._answer['size']:,} bytes)")
        else:
            bar.write(f"The server could not save the video within {SAVE_SECONDS:.0f} s.")
            bar.write("Fetch it from the link above soon: the link is temporary.")
        bar.write(f"Credits: {self._credits()}")
        if saved and self._sandboxed:
            bar.write(_SAMPLE if importlib.util.find_spec("av") is None else _OWN)
            bar.write(_REAL)
        return 0 if saved else 1

    def _credits(self) -> str:
        cost, left = (self._answer.get(name) for name in ("credit_cost", "credits_remaining"))
        named = "an unknown number" if cost is None else number(cost)
        spent = f"{named} spent" if self._bought else f"nothing spent now, {named} before"
        return spent if left is None else f"{spent}, {number(left)} left"

    def _left_behind(self) -> str:
        """A sentence about what continues after the demo has ended."""
        if self._sandboxed:
            return "The sandbox is gone, and its make-believe job with it."
        if not self._asked:
            return "Nothing was sent and nothing was charged."
        if self._status == "completed":
            return (
                "The job is completed, and it is paid. Fetch its video from the link above soon: "
                "the link is temporary."
            )
        if self._status != "running":
            return (
                "A job may have been started and charged: look at the recent jobs of your account "
                "on pixeldojo.ai before you start another."
            )
        job_id = self._answer.get("job_id")
        return (
            f"The job goes on at PixelDojo, and it is paid. Its id: {job_id}\n"
            f"To get its video, tell an assistant that has wan-mcp: wait for job {job_id}"
        )


def _lasting(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The facts about the job that stay true if a later answer does not repeat them."""
    names = ("job_id", "credit_cost", "credits_remaining")
    return {name: answer[name] for name in names if name in answer}
