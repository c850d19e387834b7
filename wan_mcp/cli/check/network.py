"""Checks PixelDojo: is it reachable, do the clocks agree, what does a job cost, is the key valid?

Each check is one read, which is free, may take a few seconds and is not repeated.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlsplit

from wan_mcp.cli.check.findings import Finding, Report, broken, note, ok
from wan_mcp.errors import NoKey, RateLimited, Unauthorized, WanError
from wan_mcp.pixeldojo.client import PixelDojo
from wan_mcp.pixeldojo.reply import Reply
from wan_mcp.pixeldojo.request import Limits
from wan_mcp.web.proxies import proxy_for
from wan_mcp.wording import counted, duration

LIMITS = Limits(connect=3.0, write=3.0, read=4.0, submit_total=0.0, read_total=5.0)
"""How long each read may take. Nothing is submitted."""
CLOCK_SECONDS = 60.0
"""How far the clocks may differ without a note; links of PixelDojo work for an hour (ours)."""

_NETWORK = (
    "Check the network, the proxy settings (HTTPS_PROXY, NO_PROXY) and PIXELDOJO_API_BASE, then "
    "run this again."
)


@dataclass(frozen=True)
class Access:
    """A key and where it is used.

    Attributes:
        base: the root of the API to which it is sent.
        key: the key; "" for none.
        places: where it was found, in words for people.
    """

    base: str
    key: str = field(repr=False)
    places: tuple[str, ...] = ()

    @property
    def shown_places(self) -> str:
        """The places as part of a sentence."""
        *first, last = self.places
        return f"{', '.join(first)} and {last}" if first else last


Connect = Callable[[Access], PixelDojo]


def connect(access: Access) -> PixelDojo:
    """The client for one access, with this check's patience."""
    return PixelDojo(access.base, access.key, agent="wan-mcp check", limits=LIMITS)


async def look(
    accesses: Iterable[Access], connect: Connect, now: Callable[[], datetime], report: Report
) -> None:
    """Report on each API, and then on each key for it."""
    by_base: dict[str, list[Access]] = {}
    for access in accesses:
        by_base.setdefault(access.base, []).append(access)
    for base, keys in by_base.items():
        report.add(_proxy(base))
        if await _is_there(connect(Access(base, "")), base, now, report):
            for access in keys:
                if access.key:
                    report.add(await _key(access, connect(access)))


async def _is_there(
    client: PixelDojo, base: str, now: Callable[[], datetime], report: Report
) -> bool:
    began, asked = time.monotonic(), now()
    try:
        reply = await client.first_answer()
        seconds = round(time.monotonic() - began, 2)
        report.add(_answered(base, reply, seconds))
        report.add(_clock(asked, reply.date, seconds))
        report.add(await _price(client))
    except WanError as exc:
        report.add(broken("api", f"{base}: {exc.what}", _NETWORK))
        return False
    finally:
        await client.aclose()
    return True


def _proxy(base: str) -> Finding:
    proxy = proxy_for(base)
    if proxy is None or urlsplit(base).scheme == "http":
        return ok("proxy", f"None is used for {base}.", proxy=None)
    parts = urlsplit(proxy)  # its user and password are not shown
    shown = f"{parts.scheme}://{(parts.netloc or '').rpartition('@')[2]}"
    return ok("proxy", f"{shown} is used for {base}, as the environment says.", proxy=shown)


def _answered(base: str, reply: Reply, seconds: float) -> Finding:
    figures = {"status": reply.status, "seconds": seconds}
    if reply.status >= 500:
        return note(
            "api",
            f"{base} answers with HTTP {reply.status}: PixelDojo has a fault at the moment.",
            "Wait some minutes, then run this again.",
            **figures,
        )
    if reply.is_page:
        return note(
            "api",
            f"A web page came from {base} instead of an answer of PixelDojo's API.",
            "If this network has a login page, log in; another network, or none of a VPN or "
            "proxy, may help, too.",
            **figures,
        )
    secure = "; its certificate is trusted" if base.startswith("https") else ""
    if reply.status < 300:
        return ok("api", f"{base} answers{secure}.", **figures)
    return note(
        "api",
        f"{base} answers with HTTP {reply.status} where it should show the model{secure}.",
        "Check PIXELDOJO_API_BASE; if it is right, a proxy may answer, or wan-mcp needs an update.",
        **figures,
    )


def _clock(asked: datetime, theirs: datetime | None, seconds: float) -> Finding:
    if theirs is None:
        return note("clock", "PixelDojo's answer has no date, so the clock was not compared.")
    ahead = (asked - theirs).total_seconds() + seconds / 2
    difference = max(abs(ahead) - seconds / 2 - 1, 0.0)  # a Date header has whole seconds
    if difference <= CLOCK_SECONDS:
        return ok("clock", "It agrees with PixelDojo's.", ahead_seconds=round(ahead, 1))
    direction = "ahead of" if ahead > 0 else "behind"
    return note(
        "clock",
        f"This computer's clock is {duration(difference)} {direction} PixelDojo's.",
        "Let the system set its time itself: links would seem to expire too early or too late.",
        ahead_seconds=round(ahead, 1),
    )


async def _price(client: PixelDojo) -> Finding:
    try:
        credits = (await client.model()).credit_estimate
    except WanError as exc:
        return note("price", f"What a job costs is not known now: {exc.what}")
    if credits is None:
        return note("price", "PixelDojo's page names no single price for all jobs.", credits=None)
    return ok("price", f"A job costs about {counted(credits, 'credit')} now.", credits=credits)


async def _key(access: Access, client: PixelDojo) -> Finding:
    where = f"The key in {access.shown_places}"
    try:
        await client.require_accepted_key()
    except Unauthorized:
        return broken(
            "key",
            f"{where} is not accepted by PixelDojo.",
            "It may be incomplete, revoked, or another service's: create one in your account on "
            "pixeldojo.ai, then set it (wan-mcp setup HOST asks for it if PIXELDOJO_API_KEY is "
            "unset).",
            accepted=False,
        )
    except NoKey:
        return broken(
            "key",
            f"{where} is still the example from the documents.",
            "Put your own key there.",
            accepted=False,
        )
    except RateLimited as exc:
        return note("key", f"{where} could not be tried: {exc.what}", "Run this again in a minute.")
    except WanError as exc:
        return note(
            "key", f"Whether {where[0].lower()}{where[1:]} is good is not known: {exc.what}"
        )
    finally:
        await client.aclose()
    return ok("key", f"{where} is accepted.", accepted=True)
