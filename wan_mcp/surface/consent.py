"""Asks the user before an expensive job, if the operator wants that and the host can ask.

Only a yes to the host's own question counts (elicitation). An argument called `confirm` would be
the model's word, not the user's. A host that answers without having asked its user looks exactly
like one that asked, so no text here says who refused.
"""

import logging
from typing import Any

from mcp.server.elicitation import AcceptedElicitation, ElicitationResult
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.resolve import Elicit, Resolve, build_resolver_plans, resolve_arguments
from mcp.types import InputRequiredResult
from pydantic import BaseModel, Field

from wan_mcp.errors import Code, Refused
from wan_mcp.wording import counted

STATELESS_REVISION = "2026-07-28"
"""Since this revision of MCP a question is the answer to a call, and needs no open connection."""


_NO_YES = "The confirmation did not come back as a yes, so nothing was sent."

logger = logging.getLogger(__name__)


class Consent(BaseModel):
    """The form that a host shows."""

    # Strict: "yes" in another form than the one that was asked for is not a yes.
    spend: bool = Field(description="Start the job and spend the credits?", strict=True)


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


async def ask(context: Context[Any, Any], question: str) -> InputRequiredResult | None:
    """Have the host ask its user; None after a yes.

    Since revision 2026-07-28 the question is the answer to the call, which the host then repeats
    with what its user said. In earlier revisions it is a request of the server during the call.

    Raises:
        NotConfirmed: the host cannot ask, or the answer was not a yes.
    """
    if not _can_ask(context):
        raise NotConfirmed(
            f'The user has to be asked first: "{question}" This host cannot ask, so nothing was '
            "sent.",
            next_step="Tell the user that WAN_MCP_CONFIRM_ABOVE is set for this server: its "
            "operator can raise or unset it, or use a host that can ask (elicitation).",
        )

    async def elicit() -> Elicit[Consent]:
        return Elicit(question, Consent)

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


def _can_ask(context: Context[Any, Any]) -> bool:
    elicitation = context.client_capabilities and context.client_capabilities.elicitation
    if not elicitation or (elicitation.form is None and elicitation.url is not None):
        return False
    return context.protocol_version == STATELESS_REVISION or context.session.can_send_request


def _require_yes(answer: ElicitationResult[Consent]) -> None:
    match answer:
        case AcceptedElicitation(data=Consent(spend=True)):
            return
    raise NotConfirmed(_NO_YES)
