"""How a reply is sent: complete, or broken in the way that a fault asks for."""

import asyncio
from collections.abc import Awaitable, Callable

from wan_mcp.sandbox.http.faults import Fault
from wan_mcp.sandbox.http.message import Reply
from wan_mcp.sandbox.http.peer import Peer

ENDLESS_LIMIT_BYTES = 64 << 20
"""Bytes after which an endless reply stops after all."""
_BODILESS = (204, 304)


async def deliver(peer: Peer, reply: Reply, fault: Fault, *, head_only: bool = False) -> bool:
    """Send the reply as the fault says; return whether the connection can carry another request."""
    if fault.send == "whole":
        return await whole(peer, reply, head_only=head_only)
    await _WAYS[fault.send](peer, reply, fault)
    return peer.can_go_on()


async def whole(peer: Peer, reply: Reply, *, head_only: bool = False) -> bool:
    """Send the complete reply; return whether the connection can carry another request."""
    await peer.start(reply, len(reply.body))
    if reply.body and not head_only and reply.status not in _BODILESS:
        await peer.data(reply.body)
    await peer.end()
    return peer.can_go_on()


async def _cut(peer: Peer, reply: Reply, fault: Fault) -> None:
    await peer.start(reply, len(reply.body))
    await peer.data(reply.body[: _cut_point(reply.body, fault.cut_at)])


def _cut_point(body: bytes, at: int | str) -> int:
    if isinstance(at, int):
        return at
    return body.index(at.encode()) + len(at.encode())


async def _stall(peer: Peer, reply: Reply, fault: Fault) -> None:
    await _cut(peer, reply, fault)
    await peer.until_gone()


async def _drip(peer: Peer, reply: Reply, fault: Fault) -> None:
    await peer.start(reply, len(reply.body))
    for at in range(len(reply.body)):
        await peer.data(reply.body[at : at + 1])
        await asyncio.sleep(fault.drip_seconds)
    await peer.end()


async def _endless(peer: Peer, reply: Reply, fault: Fault) -> None:
    await peer.start(reply, None)
    await peer.data(b'{"jobId":"')
    block = b"a" * 65_536
    for _ in range(ENDLESS_LIMIT_BYTES // len(block)):
        await peer.data(block)


async def _reset(peer: Peer, reply: Reply, fault: Fault) -> None:
    peer.reset()


async def _close(peer: Peer, reply: Reply, fault: Fault) -> None:
    await peer.leave()


async def _hang(peer: Peer, reply: Reply, fault: Fault) -> None:
    await peer.until_gone()


_WAYS: dict[str, Callable[[Peer, Reply, Fault], Awaitable[None]]] = {
    "cut": _cut,
    "stall": _stall,
    "drip": _drip,
    "endless": _endless,
    "reset": _reset,
    "close": _close,
    "hang": _hang,
}
