"""Asks the user before an expensive job, if the operator wants that and the host can ask.

Only a yes to the host's own question counts (elicitation). An argument called `confirm` would be
the model's word, not the user's. A host that answers without having asked its user looks exactly
like one that asked, so no text here says who refused.

Calls of one conversation that need a question and arrive together are one order, and share one
question. It lists each of them; a yes is for exactly these, each up to its own price, and a no is
for all. Since revision 2026-07-28 a question is the answer to a single call, which the host then
repeats, and each call has a question of its own. Nothing tells the server there which calls are of
one conversation: the state that travels with a question is that of its call alone, and the yes of
one person must not buy what another one has asked for. The other calls would also have to stay open
until the host repeats the first one, and it may do that only when it has the answers to all.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
from mcp.server.elicitation import AcceptedElicitation, ElicitationResult
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.resolve import Elicit, Resolve, build_resolver_plans, resolve_arguments
from mcp.types import InputRequiredResult
from pydantic import BaseModel, ConfigDict, Field

from wan_mcp.errors import Code, Refused
from wan_mcp.models import Replacement
from wan_mcp.surface.answers.inputs import shown_input
from wan_mcp.wording import counted

if TYPE_CHECKING:
    from wan_mcp.jobs import Jobs

STATELESS_REVISION = "2026-07-28"
"""Since this revision of MCP a question is the answer to a call, and needs no open connection."""
ORDER_SECONDS = 2.0
"""How long a call that needs a question waits for others that can share it (ours)."""
MAX_CALLS = 50
"""How many calls one question may cover (ours): a person has to read them all."""
MAX_INPUT_CHARACTERS = 80
"""Characters of a clip or a picture in a question about several jobs: its end names the file."""

_NO_YES = "The confirmation did not come back as a yes, so nothing was sent."

logger = logging.getLogger(__name__)


class Consent(BaseModel):
    """The form that a host shows."""

    # Strict: "yes" in another form than the one that was asked for is not a yes.
    spend: bool = Field(description="Start the job and spend the credits?", strict=True)


class ConsentToAll(BaseModel):
    """The same form for several jobs."""

    model_config = ConfigDict(defer_build=True)

    spend: bool = Field(description="Start all these jobs and spend the credits?", strict=True)


class NotConfirmed(Refused):
    """The operator wants the user to agree to a job of this price, and that did not happen."""

    code = Code.NOT_CONFIRMED
    advice = "Tell the user. Call again only if they want to be asked again."


def question_for(price: float | None, limit: float, why: str = "") -> str | None:
    """What to ask before a job; None when no question is needed.

    Args:
        price: credits that the job is expected to cost; an unknown price needs a question too.
        limit: credits that a job may cost without a question.
        why: why that is not the price on PixelDojo's model page, in a sentence; "" if it is.
    """
    if price is not None and price <= limit:
        return None
    cost = (
        "an unknown number of PixelDojo credits"
        if price is None
        else f"about {counted(price, 'PixelDojo credit')}"
    )
    return " ".join(filter(None, [f"This job costs {cost}.", why, "Start it?"]))


@dataclass(frozen=True)
class Purchase:
    """One job that the user is asked about.

    Attributes:
        wanted: what is bought.
        question: what is asked about this job alone.
        price: credits that it is expected to cost; None if that is not known.
        why: why that is not the price on PixelDojo's model page, in a sentence; "" if it is.
    """

    wanted: Replacement
    question: str
    price: float | None
    why: str = ""


@dataclass(eq=False)
class _Order:
    """The calls of one conversation that share a question.

    Attributes:
        conversation: what identifies it, compared by identity.
        ends: when no more calls join, on the monotonic clock.
        purchases: those of the calls that are still there.
        outcome: the answer to the question; None before there is one.
    """

    conversation: object
    ends: float
    purchases: list[Purchase] = field(default_factory=list)
    asking: anyio.Lock = field(default_factory=anyio.Lock)
    outcome: _Outcome | None = None


@dataclass(frozen=True)
class _Outcome:
    """The answer to a question, and the jobs that it was about."""

    covered: tuple[Purchase, ...]
    refusal: NotConfirmed | None


class Orders:
    """The questions of one server."""

    def __init__(self) -> None:
        self._open: list[_Order] = []

    async def ask(
        self, context: Context[Any, Any], jobs: Jobs, purchase: Purchase
    ) -> InputRequiredResult | None:
        """Have the host ask its user about a job and those that arrive with it; None after a yes.

        In revision 2026-07-28 the answer is the question, about this job alone.

        Raises:
            NotConfirmed: the host cannot ask, or the answer was not a yes.
        """
        _require_host_that_can_ask(context, purchase.question)
        if context.protocol_version == STATELESS_REVISION:
            return await ask(context, purchase.question)
        clock = jobs.clock
        order = self._joined(context, clock.monotonic(), purchase)
        try:
            await clock.sleep(max(order.ends - clock.monotonic(), 0.0))
            async with order.asking:
                # When the call that asks is cancelled, the next one asks, about those still there.
                order.outcome = order.outcome or await self._outcome(context, order)
        finally:
            order.purchases.remove(purchase)
        _require_agreement(order.outcome, purchase)
        return None

    def _joined(self, context: Context[Any, Any], now: float, purchase: Purchase) -> _Order:
        """The order that the purchase belongs to from now on."""
        self._open = [order for order in self._open if order.ends > now]
        conversation = context.session.client_params or object()  # one handshake, one user
        for order in self._open:
            if order.conversation is conversation and len(order.purchases) < MAX_CALLS:
                break
        else:
            order = _Order(conversation, now + ORDER_SECONDS)
            self._open.append(order)
        order.purchases.append(purchase)
        return order

    async def _outcome(self, context: Context[Any, Any], order: _Order) -> _Outcome:
        covered = tuple(dict.fromkeys(order.purchases))  # equal calls are one job
        try:
            if len(covered) == 1:
                await ask(context, covered[0].question)
            else:
                await ask(context, question_for_all(covered), ConsentToAll)
        except NotConfirmed as refusal:
            return _Outcome(covered, refusal)
        return _Outcome(covered, None)


def question_for_all(purchases: Sequence[Purchase]) -> str:
    """What to ask before several jobs, each of which is too expensive without a question."""
    count = len(purchases)
    known = [each.price for each in purchases if each.price is not None]
    total = (
        f"about {counted(round(sum(known), 6), 'PixelDojo credit')} together"
        if known
        else "an unknown number of PixelDojo credits"
    )
    unknown = count - len(known) if known else 0
    rest = f"; the price of {unknown} of them is not known" if unknown else ""
    lines = [f"{number}. {_line(each)}" for number, each in enumerate(purchases, 1)]
    why = dict.fromkeys(each.why for each in purchases if each.why)
    first = " ".join([f"These {count} jobs cost {total}{rest}.", *why])
    return "\n".join([first, *lines, "Start all of them?"])


def _line(purchase: Purchase) -> str:
    wanted, price = purchase.wanted, purchase.price
    cost = "price not known" if price is None else f"about {counted(price, 'credit')}"
    seed = [] if wanted.seed is None else [f"seed {wanted.seed}"]
    size = [f"{wanted.seconds} s", f"{wanted.resolution or '480'} lines", *seed]
    inputs = f"{_end(wanted.video)} with {_end(wanted.character_image)}"
    return f"{cost}: {inputs}, {', '.join(size)}"


def _end(given: str) -> str:
    """The end of an input, which is shown as elsewhere: without a query, which may be a secret."""
    shown = shown_input(given)
    return shown if len(shown) <= MAX_INPUT_CHARACTERS else f"...{shown[-MAX_INPUT_CHARACTERS:]}"


def _require_agreement(outcome: _Outcome, purchase: Purchase) -> None:
    if outcome.refusal is None and purchase in outcome.covered:
        return
    count = len(outcome.covered)
    raise NotConfirmed(
        _NO_YES
        if count == 1
        else f"One question was asked about {count} jobs, this one among them. Its confirmation "
        f"did not come back as a yes, so none of the {count} was started."
    )


async def ask(
    context: Context[Any, Any], question: str, form: type[BaseModel] = Consent
) -> InputRequiredResult | None:
    """Have the host ask its user; None after a yes.

    Since revision 2026-07-28 the question is the answer to the call, which the host then repeats
    with what its user said. In earlier revisions it is a request of the server during the call.

    Raises:
        NotConfirmed: the answer was not a yes.
    """

    async def elicit() -> Elicit[Any]:
        return Elicit(question, form)

    arguments = {"consent": (Resolve(elicit), True)}
    plans = build_resolver_plans(arguments, set())
    try:
        answer = await resolve_arguments(arguments, plans, {}, context)
    except Exception as odd:
        # Whatever came instead of an answer is not a yes, and nothing was sent before it.
        logger.info("the question to the user was not answered: %s", type(odd).__name__)
        raise NotConfirmed(_NO_YES) from odd
    if isinstance(answer, InputRequiredResult):
        return answer
    _require_yes(answer["consent"])
    return None


def _require_host_that_can_ask(context: Context[Any, Any], question: str) -> None:
    if not _can_ask(context):
        raise NotConfirmed(
            f'The user has to be asked first: "{question}" This host cannot ask, so nothing was '
            "sent.",
            next_step="Tell the user that WAN_MCP_CONFIRM_ABOVE is set for this server: its "
            "operator can raise or unset it, or use a host that can ask (elicitation).",
        )


def _can_ask(context: Context[Any, Any]) -> bool:
    elicitation = context.client_capabilities and context.client_capabilities.elicitation
    if not elicitation or (elicitation.form is None and elicitation.url is not None):
        return False
    return context.protocol_version == STATELESS_REVISION or context.session.can_send_request


def _require_yes(answer: ElicitationResult[Any]) -> None:
    match answer:
        case AcceptedElicitation(data=Consent(spend=True) | ConsentToAll(spend=True)):
            return
    raise NotConfirmed(_NO_YES)
