"""What it costs to know who a request comes from, and what 100,000 tokens do to the server.

Run it by hand, from the root of the project (two minutes on a quiet machine)::

    python -m tests.bench.sign_in [speed] [flood]

The floor is the check of one RS256 signature by `cryptography`, with nothing around it. The whole
is a request from the door to the app, with its header, its body and its claims. Both are measured
in turn, so a busy machine slows both. If a target is missed, the exit code is 1.
"""

import asyncio
import gc
import json
import resource
import sys
import time
from base64 import urlsafe_b64decode
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from statistics import median

import respx
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from starlette.types import Message, Receive, Scope, Send

from tests.bench.waiting import Report, run_all
from tests.transports.sign_in.scene import OWN, Clock, Issuer, People, key_of, trust
from wan_mcp.transports.sign_in.door import Door
from wan_mcp.transports.sign_in.sign_in import SignIn

TURNS = 2_000
TOKENS = 100_000
CALL = json.dumps(
    {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "list_jobs"}}
).encode()

Ask = Callable[[str], Awaitable[int]]
"""Sends a token to a door; returns the status of the answer, 200 from the app."""


async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Answers at once."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def with_door(use: Callable[[Ask, Issuer, respx.Route], Awaitable[None]]) -> None:
    """Use a door whose issuer signs with RS256 (k1) and with Ed25519 (k2)."""
    issuer = Issuer(keys={"k1": ("RS256", key_of("RS256")), "k2": ("EdDSA", key_of("EdDSA"))})
    clock = Clock()
    sign_in = SignIn(People(), trust(), wall=clock.wall, monotonic=clock.monotonic)
    async with AsyncExitStack() as stack:
        network = stack.enter_context(respx.mock(assert_all_called=False))
        keys = issuer.serve(network)
        opened = await stack.enter_async_context(sign_in.open("/mcp", app, 1_000_000))
        door = opened.doors[0].app
        assert isinstance(door, Door)

        async def ask(token: str) -> int:
            return await status(door, token)

        await use(ask, issuer, keys)


async def status(door: Door, token: str) -> int:
    """The status of the answer to one request."""
    found: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": CALL, "more_body": False}

    async def send(message: Message) -> None:
        found.extend([message["status"]] if "status" in message else [])

    headers = [(b"host", b"wan.example.com"), (b"authorization", f"Bearer {token}".encode())]
    await door({"type": "http", "method": "POST", "headers": headers}, receive, send)
    return found[0]


def speed(report: Report) -> None:
    """Measure what one request costs."""

    async def use(ask: Ask, issuer: Issuer, _keys: respx.Route) -> None:
        token = issuer.token()
        check = floor(token)
        timings: dict[str, list[float]] = {"floor": [], "jwt": [], "own": []}
        for _ in range(TURNS):
            began = time.perf_counter()
            check()
            after_floor = time.perf_counter()
            assert await ask(token) == 200
            after_jwt = time.perf_counter()
            assert await ask(OWN) == 200
            timings["floor"].append(after_floor - began)
            timings["jwt"].append(after_jwt - after_floor)
            timings["own"].append(time.perf_counter() - after_jwt)
        milliseconds = {name: median(each) * 1e3 for name, each in timings.items()}
        report.line("floor: one RS256 signature, ms (median)", milliseconds["floor"])
        report.line("a request with a JWT, ms (median)", milliseconds["jwt"], 1)
        report.line("the same as times the floor", milliseconds["jwt"] / milliseconds["floor"], 10)
        report.line("a request with an own token, ms (median)", milliseconds["own"], 1)

    asyncio.run(with_door(use))


def floor(token: str) -> Callable[[], object]:
    """Checks the signature of a token, and nothing else."""
    signed, _, signature = token.rpartition(".")
    public = key_of("RS256").public_key()
    raw = urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    return lambda: public.verify(raw, signed.encode(), PKCS1v15(), SHA256())


def flood(report: Report) -> None:
    """Send 100,000 different tokens of each kind."""

    async def use(ask: Ask, issuer: Issuer, keys: respx.Route) -> None:
        good = issuer.token("k2")
        head, body, signature = good.split(".")
        kinds: dict[str, tuple[Callable[[int], str], set[int]]] = {
            "of 100,000 clients": (lambda n: issuer.token("k2", client_id=f"c{n}"), {200}),
            "with a wrong signature": (lambda n: f"{head}.{body}.{n:06}{signature[6:]}", {401}),
            "with keys that do not exist": (
                lambda n: issuer.token("k2", {"kid": f"k{n + 9}"}),
                {401, 503},
            ),
            "that look like own ones": (lambda n: f"wan_{n:010}_{signature}", {401}),
        }
        assert await ask(good) == 200
        for name, (made, expected) in kinds.items():
            await one_flood(report, name, ask, map(made, range(TOKENS)), expected)
        report.line("questions to the issuer in all of this", keys.call_count, 2)

    asyncio.run(with_door(use))


async def one_flood(
    report: Report, name: str, ask: Ask, tokens: Iterable[str], expected: set[int]
) -> None:
    """Send these tokens, one after the other."""
    gc.collect()
    memory, spent, answers = resident(), 0.0, Counter[int]()
    for token in tokens:
        began = time.process_time()  # one after the other, so a busy machine only delays them
        answers[await ask(token)] += 1
        spent += time.process_time() - began
    gc.collect()
    assert set(answers) <= expected, answers
    report.line(f"{name}: CPU ms each (mean)", spent / TOKENS * 1e3, 1)
    report.line(f"{name}: more memory, MB", resident() - memory, 20)


def resident() -> float:
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


SCENARIOS: dict[str, Callable[[Report], None]] = {"speed": speed, "flood": flood}

if __name__ == "__main__":
    sys.exit(run_all(SCENARIOS))
