"""`wan-mcp demo`: a real MCP client, the real server as a subprocess, and one job end to end."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.types import TextContent

from wan_mcp.settings import Settings

BAR_WIDTH = 28


class Demo:
    """One run of the demo.

    Args:
        given: arguments for replace_character; the sandbox brings its own clip and picture.
        folder: where the film is saved.
        job_seconds: how long the sandbox takes for a job.
    """

    def __init__(self, given: dict[str, Any], *, folder: Path, job_seconds: float) -> None:
        self._given = given
        self._folder = folder
        self._job_seconds = job_seconds

    async def on_sandbox(self, environment: Mapping[str, str]) -> int:
        """Run on a sandbox of its own; 0 when a film was saved, else 1."""
        from wan_mcp.sandbox import Sandbox, Terms

        seconds = self._job_seconds
        terms = Terms(pending_seconds=seconds / 5, processing_seconds=seconds * 4 / 5)
        async with Sandbox(terms) as sandbox:
            _say(f"Sandbox: a make-believe PixelDojo on {sandbox.origin}, free of charge")
            given = {"video": sandbox.clip_url, "character_image": sandbox.image_url}
            account = {
                "PIXELDOJO_API_BASE": sandbox.api_base,
                "PIXELDOJO_API_KEY": sandbox.key,
            }
            bar = Bar(expected=seconds)
            return await self._run({**given, **self._given}, {**environment, **account}, bar)

    async def live(self, settings: Settings, environment: Mapping[str, str]) -> int:
        """Run on the real PixelDojo after asking; 0 when a film was saved, else 1."""
        missing = [name for name in ("video", "character_image") if name not in self._given]
        if missing:
            raise ValueError("--live needs --video and --image: public links to your own files")
        price = await _price(settings)
        question = f"This starts one job at {settings.api_base} ({price}). Go on? [y/N] "
        answer = await anyio.to_thread.run_sync(_ask, question)
        if answer.strip().lower() not in {"y", "yes"}:
            _say("Nothing was sent and nothing was charged.")
            return 1
        key = {"PIXELDOJO_API_KEY": settings.api_key.get_secret_value()}
        return await self._run(self._given, {**environment, **key}, Bar(expected=None))

    async def _run(self, given: dict[str, Any], environment: dict[str, str], bar: "Bar") -> int:
        server = StdioServerParameters(
            command=sys.executable, args=["-m", "wan_mcp"], env=environment
        )
        async with Client(server) as client:
            _say(f"Server:  wan-mcp over stdio, MCP {client.protocol_version}")
            started = await self._call(client, "replace_character", given, bar)
            job = started
            while job.get("status") == "running":
                job = await self._call(client, "wait_for_job", {"job_id": job["job_id"]}, bar)
        bar.close()
        if job.get("status") != "completed" or "video_url" not in job:
            return 1
        path = await save(job["video_url"], self._folder / f"wan-mcp-{job['job_id']}.mp4")
        _say(f"Saved:   {path} ({path.stat().st_size:,} bytes)")
        _say(f"URL:     {job['video_url']} (temporary)")
        _say(
            f"Credits: {_credits(job, 'credit_cost')} spent, "
            f"{_credits(started, 'credits_remaining')} left"
        )
        return 0

    async def _call(
        self, client: Client, tool: str, given: dict[str, Any], bar: "Bar"
    ) -> dict[str, Any]:
        async def progress(done: float, total: float | None, message: str | None) -> None:
            bar.show(message or "")

        result = await client.call_tool(tool, given, progress_callback=progress)
        told = result.structured_content or {}
        if result.is_error or told.get("status") != "running":
            bar.close()
            texts = [block.text for block in result.content if isinstance(block, TextContent)]
            _say("\n".join(texts))
        return told


class Bar:
    """One line that shows how far a wait is; plain lines where nobody watches a terminal.

    Args:
        expected: seconds the whole will take, when that is known; else the bar only moves.
    """

    def __init__(self, *, expected: float | None) -> None:
        self._expected = expected
        self._start = time.monotonic()
        self._terminal = sys.stdout.isatty()
        self._open = False

    def show(self, message: str) -> None:
        """Draw the bar with a message."""
        elapsed = time.monotonic() - self._start
        line = f"[{self._drawn(elapsed)}] {message}"
        if self._terminal:
            sys.stdout.write(f"\r\x1b[2K{line}")
        else:
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
        self._open = self._terminal

    def close(self) -> None:
        """Leave the line."""
        if self._open:
            sys.stdout.write("\n")
        self._open = False

    def _drawn(self, elapsed: float) -> str:
        if self._expected is None:
            at = int(elapsed) % BAR_WIDTH
            return "".join("#" if i == at else "." for i in range(BAR_WIDTH))
        done = min(int(BAR_WIDTH * elapsed / max(self._expected, 0.1)), BAR_WIDTH)
        return "#" * done + "." * (BAR_WIDTH - done)


async def save(url: str, path: Path) -> Path:
    """Save a film; the path that was written, absolute. The API key is not sent along.

    Raises:
        OSError: the film could not be fetched or written whole.
    """
    import httpx

    target = await anyio.Path(path).absolute()
    await target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    try:
        async with httpx.AsyncClient(timeout=30) as client, client.stream("GET", url) as film:
            film.raise_for_status()
            async with await part.open("wb") as file:
                async for chunk in film.aiter_bytes():
                    await file.write(chunk)
    except httpx.HTTPError as exc:
        raise OSError(f"the film could not be fetched; its link: {url}") from exc
    return Path(await part.replace(target))


async def _price(settings: Settings) -> str:
    from wan_mcp.errors import WanError
    from wan_mcp.pixeldojo.client import PixelDojo

    vendor = PixelDojo(settings.api_base, settings.api_key.get_secret_value())
    try:
        estimate = (await vendor.model()).credit_estimate
    except WanError:
        estimate = None
    finally:
        await vendor.aclose()
    return "its price is not known" if estimate is None else f"about {estimate:g} credits"


def _ask(question: str) -> str:
    _say(question)
    return sys.stdin.readline()


def _credits(job: Mapping[str, Any], name: str) -> str:
    return f"{job[name]:g}" if name in job else "an unknown number"


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
