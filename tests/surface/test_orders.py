"""One question for an order: calls that arrive together where a call can ask while it goes on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.types import ElicitResult

from tests.connected import Host, connected
from tests.virtual_time import VirtualTime, in_virtual_time
from wan_mcp.sandbox import Terms
from wan_mcp.surface import consent

pytestmark = pytest.mark.anyio

time, anyio_backend = in_virtual_time(0.0, sockets=True)

SETTINGS = {
    "WAN_MCP_CONFIRM_ABOVE": "5",
    "WAN_MCP_MAX_IN_FLIGHT": "50",
    "WAN_MCP_MAX_SUBMITS_PER_MINUTE": "50",
}
"""Each job costs 10 credits, so that it needs a question."""
YES = ElicitResult(action="accept", content={"spend": True})
NO = ElicitResult(action="decline")


class User:
    """The person who is asked.

    Attributes:
        questions: the time and the text of each.
        answers: what is said to them in turn; the last one is repeated.
        thinks: is called before each answer.
    """

    def __init__(self, time: VirtualTime, *answers: ElicitResult) -> None:
        self.questions: list[tuple[float, str]] = []
        self.answers = list(answers)
        self.thinks: Any = None
        self._time = time

    async def __call__(self, context: object, params: Any) -> ElicitResult:
        self.questions.append((self._time.passed(), params.message))
        if self.thinks is not None:
            await self.thinks()
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@asynccontextmanager
async def asked(
    time: VirtualTime, data: Path, user: User | None, mode: str = "legacy"
) -> AsyncIterator[Host]:
    terms = Terms(credits=1_000)
    async with connected(time, data, mode, terms=terms, settings=SETTINGS, answer=user) as host:
        yield host


async def ordered(host: Host, *seeds: int, apart: float = 0.0) -> list[dict[str, Any]]:
    """The answers to calls that begin that many seconds after one another, by seed."""
    answers: dict[int, dict[str, Any]] = {}

    async def one(seed: int) -> None:
        links = {"video": host.sandbox.source_video_url, "character_image": host.sandbox.image_url}
        answers[seed] = await host.call("replace_character", **links, seed=seed)

    async with anyio.create_task_group() as tasks:
        for seed in seeds:
            tasks.start_soon(one, seed)
            if apart:
                await anyio.sleep(apart)
    return [answers[seed] for seed in dict.fromkeys(seeds)]


async def test_calls_that_arrive_together_are_one_question_that_lists_them(
    time: VirtualTime, tmp_path: Path
) -> None:
    """A person reads once what they pay for, and the sum (ours)."""
    user = User(time, YES)
    async with asked(time, tmp_path, user) as host:
        answers = await ordered(host, 1, 2, 3, apart=0.5)
        ((at, question),) = user.questions

        assert question.startswith("These 3 jobs cost about 30 PixelDojo credits together.\n1. ")
        assert [f"seed {seed}" in question for seed in (1, 2, 3)] == [True] * 3
        assert question.count("about 10 credits") == 3
        assert consent.ORDER_SECONDS <= at < consent.ORDER_SECONDS + 1
        assert [answer["charged"] for answer in answers] == ["yes"] * 3
        assert len(host.sandbox.charges) == 3


async def test_a_no_refuses_every_call_of_the_order_and_says_so(
    time: VirtualTime, tmp_path: Path
) -> None:
    """And the next order is asked about anew (ours)."""
    user = User(time, NO, YES)
    async with asked(time, tmp_path, user) as host:
        refused = await ordered(host, 1, 2)
        charges = len(host.sandbox.charges)
        again = await ordered(host, 1, 2)

        assert [(each["code"], each["charged"]) for each in refused] == [
            ("not_confirmed", "no")
        ] * 2
        assert all("none of the 2 was started" in each["message"] for each in refused)
        assert charges == 0
        assert [each["charged"] for each in again] == ["yes", "yes"]
        assert len(user.questions) == 2


async def test_a_yes_is_for_no_later_call(time: VirtualTime, tmp_path: Path) -> None:
    """Not even while the person still reads the first question (ours)."""
    user = User(time, YES, NO)
    host: Host
    later: list[dict[str, Any]] = []

    async def a_call_comes() -> None:
        user.thinks = None
        later.extend(await ordered(host, 3))

    async with asked(time, tmp_path, user) as host:
        user.thinks = a_call_comes
        user.answers = [NO, YES]  # the inner question is answered first
        answers = await ordered(host, 1, 2)

        assert [each["charged"] for each in answers] == ["yes", "yes"]
        assert [each["code"] for each in later] == ["not_confirmed"]
        assert sorted(charge.body["seed"] for charge in host.sandbox.charges) == [1, 2]
        assert user.questions[1][1].startswith("This job costs about 10 PixelDojo credits.")


async def test_a_call_alone_is_asked_in_todays_words(time: VirtualTime, tmp_path: Path) -> None:
    """Equal calls are one job, so that they are no order (ours)."""
    user = User(time, YES)
    async with asked(time, tmp_path, user) as host:
        await ordered(host, 7, 7)

        assert [text for _, text in user.questions] == [
            "This job costs about 10 PixelDojo credits. Start it?"
        ]
        assert len(host.sandbox.charges) == 1


async def test_a_call_that_needs_no_question_waits_for_nobody(
    time: VirtualTime, tmp_path: Path
) -> None:
    """Nor does one that cannot be asked about, nor one of a revision without open calls (ours)."""
    took = []
    for name, above, mode, user in (
        ("cheap", "50", "legacy", User(time, YES)),
        ("cannot ask", "5", "legacy", None),
        ("its own question", "5", "auto", User(time, YES)),
    ):
        settings = {**SETTINGS, "WAN_MCP_CONFIRM_ABOVE": above}
        terms = Terms(credits=1_000)
        async with connected(
            time, tmp_path / name, mode, terms=terms, settings=settings, answer=user
        ) as host:
            began = time.now
            await ordered(host, 1, 2)
            took.append(time.now - began < consent.ORDER_SECONDS)

    assert took == [True] * 3


async def test_each_call_of_revision_2026_07_28_has_a_question_of_its_own(
    time: VirtualTime, tmp_path: Path
) -> None:
    """There the question is the answer to the call (MCP specification)."""
    user = User(time, YES)
    async with asked(time, tmp_path, user, "auto") as host:
        answers = await ordered(host, 1, 2)

        assert [each["charged"] for each in answers] == ["yes", "yes"]
        assert [text for _, text in user.questions] == [
            "This job costs about 10 PixelDojo credits. Start it?"
        ] * 2


async def test_users_of_one_server_are_not_asked_about_each_others_calls(
    time: VirtualTime, tmp_path: Path
) -> None:
    """A question goes to the conversation of its calls (ours)."""
    orders = consent.Orders()
    first, second = (_conversation() for _ in range(2))
    purchases = [_purchase(seed) for seed in (1, 2, 3)]
    joined = [
        orders._joined(conversation, time.now, purchase)
        for conversation, purchase in zip((first, second, first), purchases, strict=True)
    ]

    assert joined[0] is joined[2]
    assert joined[0].purchases == [purchases[0], purchases[2]]
    assert joined[1].purchases == [purchases[1]]


async def test_when_the_asking_call_is_cancelled_the_next_one_asks_about_the_rest(
    time: VirtualTime, tmp_path: Path
) -> None:
    """A question that its host has taken back is no answer for the others (ours)."""
    user = User(time, YES)
    async with asked(time, tmp_path, user) as host:
        async with anyio.create_task_group() as tasks:
            cancelled = anyio.CancelScope()

            async def first() -> None:
                with cancelled:
                    await ordered(host, 1)

            async def it_is_cancelled() -> None:
                user.thinks = None
                cancelled.cancel()
                await anyio.sleep(600)

            user.thinks = it_is_cancelled
            tasks.start_soon(first)
            await anyio.sleep(0.5)
            rest = await ordered(host, 2, 3)
            tasks.cancel_scope.cancel()

        assert [each["charged"] for each in rest] == ["yes", "yes"]
        assert [text.count("seed") for _, text in user.questions] == [3, 2]
        assert sorted(charge.body["seed"] for charge in host.sandbox.charges) == [2, 3]


def _conversation() -> Any:
    class Session:
        client_params = object()

    class Context:
        session = Session()

    return Context()


def _purchase(seed: int) -> consent.Purchase:
    from wan_mcp.models import Replacement

    wanted = Replacement(video="https://a.example/v.mp4", character_image="", seed=seed)
    return consent.Purchase(wanted, "?", 10)
