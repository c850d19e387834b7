"""What all users of a server share: one of them cannot use it up."""

from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING

import anyio
import pytest

if TYPE_CHECKING:
    from tests.replicas.caller import Exchange
    from tests.tenants.company import Company, Person

pytestmark = pytest.mark.anyio


def listening(person: "Person") -> AbstractAsyncContextManager["Exchange"]:
    """A stream of notifications; the first message says that it is open, or why it is not."""
    wanted = {"resourceSubscriptions": ["wan://jobs/unknown"]}
    return person.asked("subscriptions/listen", notifications=wanted)


async def is_open(person: "Person", stack: AsyncExitStack, kept: list["Exchange"]) -> bool:
    """Whether one more stream opens, which the stack closes.

    Args:
        kept: gets the stream, which would end if nobody held it.
    """
    kept.append(await stack.enter_async_context(listening(person)))
    return "error" not in await kept[-1].message()


async def test_one_users_streams_leave_places_for_others_and_are_free_again_when_they_break(
    company: "Company", monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host opens one for each conversation (docs/teams.md)."""
    monkeypatch.setattr("wan_mcp.surface.subscriptions.MAX_STREAMS_OF_USER", 2)
    kept: list[Exchange] = []
    async with (
        company.served(),
        company.person(company.ann) as ann,
        company.person(company.bob) as bob,
        AsyncExitStack() as others,
    ):
        async with AsyncExitStack() as stack:
            assert [await is_open(ann, stack, kept) for _ in range(2)] == [True, True]
            async with listening(ann) as refused:
                error = (await refused.message())["error"]
            assert await is_open(bob, others, kept)
        with anyio.fail_after(600):
            while not await is_open(
                ann, others, kept
            ):  # the server learns of the end a little later
                await anyio.lowlevel.checkpoint()

    assert "2 subscriptions of yours" in error["message"]
    assert "try again in 30 seconds" in error["message"]
