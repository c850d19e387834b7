"""Checks how files of this computer reach PixelDojo, and the bucket for finished videos."""

from collections.abc import Callable
from datetime import datetime

from wan_mcp.cli.check.findings import Finding, broken, for_person, note, ok
from wan_mcp.settings import Settings
from wan_mcp.storage.object_store import ObjectStore, Patience
from wan_mcp.storage.unavailable import Unavailable
from wan_mcp.storage.uploads import LINK_SECONDS
from wan_mcp.wording import duration

PATIENCE = Patience(answer=10.0, retries=1)
"""Only one page of names is requested, which costs nothing (ours)."""


async def bucket(settings: Settings, now: Callable[[], datetime]) -> Finding:
    """Whether the storage can be used, if files go through one; nothing is written to it."""
    if settings.public_url is not None:
        return ok(
            "storage",
            f"None is needed: your files are lent through {settings.public_url}, which has to lead "
            f"to port {settings.public_port} of this computer. Each job tries that before you pay.",
            url=settings.public_url,
            port=settings.public_port,
        )
    url = settings.storage_url
    if url is None:
        return ok(
            "storage",
            "None: inputs have to be links, because PixelDojo cannot fetch a file of this computer "
            "(neither WAN_MCP_STORAGE_URL nor WAN_MCP_PUBLIC_URL is set).",
        )
    store = ObjectStore(url, settings.clouds, PATIENCE)
    try:
        await store.look()
        seconds = store.link_seconds(LINK_SECONDS, now())
        await store.sign("inputs/none", seconds)
    except Unavailable as exc:
        way_out = for_person(exc.next_step)
        return (note if exc.transient else broken)("storage", exc.what, way_out, url=url)
    found = f"{url} can be read, and links to it live {duration(seconds)}."
    figures = {"url": url, "link_seconds": seconds}
    if store.is_on_this_computer and not settings.on_loopback:
        return note(
            "storage",
            f"{found} But it is on this computer, so PixelDojo cannot download from it.",
            "Set AWS_ENDPOINT_URL to an address that the internet can reach.",
            **figures,
        )
    return ok("storage", found, **figures)


async def stored_videos(settings: Settings) -> Finding | None:
    """Whether the storage for finished videos can be used; None if they go to a disk, or nowhere.

    Nothing is written to it.
    """
    url = settings.video_folder(None, local=True)
    if not isinstance(url, str):
        return None
    try:
        await ObjectStore(url, settings.clouds, PATIENCE).look()
    except Unavailable as exc:
        way_out = for_person(exc.next_step)
        return (note if exc.transient else broken)("videos", exc.what, way_out, url=url)
    return ok("videos", f"They go to {url}, which can be read.", url=url)
