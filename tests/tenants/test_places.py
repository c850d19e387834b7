"""One user takes only so many places of a server, and the others find theirs."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.replicas.caller import data_of

if TYPE_CHECKING:
    from tests.tenants.company import Company, Person

pytestmark = pytest.mark.anyio

Open = Callable[["Person"], AbstractAsyncContextManager[dict[str, Any]]]
"""A call that goes on until it is left, and what comes for it first."""


@asynccontextmanager
async def wait(person: "Person", *seeds: int) -> AsyncIterator[dict[str, Any]]:
    """A wait for jobs of one's own."""
    ids = [(await person.order(seed))["job_id"] for seed in seeds]
    async with person.calling("wait_for_job", job_id=",".join(ids), timeout_seconds=900) as call:
        await call.message()  # that it looks at the jobs
        yield await call.message()


def wait_for_one(person: "Person") -> AbstractAsyncContextManager[dict[str, Any]]:
    return wait(person, 1)


def wait_for_two(person: "Person") -> AbstractAsyncContextManager[dict[str, Any]]:
    return wait(person, 1, 2)


@asynccontextmanager
async def stream(person: "Person") -> AsyncIterator[dict[str, Any]]:
    """A stream of notifications."""
    nothing: dict[str, list[str]] = {"resourceSubscriptions": []}
    async with person.asked("subscriptions/listen", notifications=nothing) as call:
        yield await call.message()


@pytest.mark.parametrize(
    ("open_one", "limit", "what"),
    [
        (wait_for_one, "wan_mcp.polling.wallet_work.MAX_WAITS_OF_USER", "calls of this user wait"),
        (wait_for_two, "wan_mcp.polling.wallet_work.MAX_WAITS_OF_USER", "calls of this user wait"),
        (stream, "wan_mcp.surface.subscriptions.MAX_STREAMS_OF_USER", "subscriptions of this user"),
    ],
)
async def test_user_who_has_all_their_places_is_refused_and_a_colleague_finds_one(
    company: "Company",
    monkeypatch: pytest.MonkeyPatch,
    open_one: Open,
    limit: str,
    what: str,
) -> None:
    """They share a wallet. A call whose connection breaks gives its place back (ours)."""
    monkeypatch.setattr(limit, 2)
    async with (
        company.served(),
        company.person(company.ann) as ann,
        company.person(company.bob) as bob,
    ):
        async with (
            open_one(ann) as first,
            open_one(ann) as second,
            open_one(ann) as refused,
            open_one(bob) as colleague,
        ):
            status = await ann.order(1)
        has_place = False
        while not has_place:  # until the server knows that the connections are gone
            async with open_one(ann) as again:
                has_place = "params" in again

    assert all("params" in each for each in (first, second, colleague))
    if "error" in refused:
        assert f"2 {what}" in refused["error"]["message"]
        assert "charged nothing" in refused["error"]["message"]
        assert "again in 30 s" in refused["error"]["message"]
    else:
        said = data_of(refused)
        assert f"2 {what}" in said["message"]
        assert (said["code"], said["charged"], said["retry_safe"]) == ("busy", "no", True)
        assert said["retry_after_seconds"] == 30
    assert status["status"] == "running"  # and whatever does not wait goes on
