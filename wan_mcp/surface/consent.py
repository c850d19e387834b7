"""Asking the person before a dear job, where the operator wants that and the host can ask.

A yes counts only when it comes through the host's own question to its user (elicitation). An
argument called `confirm` would be the model's word, not the person's; and a host that answers
without having asked cannot be told from one that asked, so nothing here says who said no.
"""

from typing import Any

from mcp.server.elicitation import AcceptedElicitation, ElicitationResult
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.resolve import Elicit, Resolve, build_resolver_plans, resolve_arguments
from mcp.types import InputRequiredResult
from pydantic import BaseModel, Field

from wan_mcp.errors import Refused

MODERN = "2026-07-28"


class Consent(BaseModel):
    """The question, as a host shows it."""

    spend: bool = Field(description="Start the job and spend the credits?")


class NotConfirmed(Refused):
    """The operator wants a person's yes for a job of this price, and there was none."""

    code = "not_confirmed"
    advice = "Tell the user. Call again only if they want to be asked again."


def question(price: float | None, limit: float) -> str | None:
    """What to ask before a job; None when no question is wanted.

    Args:
        price: credits that the job is said to cost; an unknown price is asked about too.
        limit: what may be spent on a job without asking.
    """
    if price is not None and price <= limit:
        return None
    cost = "an unknown number of" if price is None else f"about {price:.15g}"
    return f"This job costs {cost} PixelDojo credits. Start it?"


async def ask(context: Context[Any, Any], text: str) -> InputRequiredResult | None:
    """Have the host put the question; None after a yes.

    Since revision 2026-07-28 a question is the answer to the call, which then comes again with
    the person's own; before, it is a request of ours in the middle of the call.

    Raises:
        NotConfirmed: the host cannot ask, or the answer was no yes.
    """
    if not _can_ask(context):
        raise NotConfirmed(
            f'The user has to be asked first: "{text}" This host cannot ask, so nothing was sent.',
            next_step="Tell the user that WAN_MCP_CONFIRM_ABOVE is set for this server: its "
            "operator can raise or unset it, or use a host that can ask (elicitation).",
        )

    async def put() -> Elicit[Consent]:
        return Elicit(text, Consent)

    asked = {"consent": (Resolve(put), True)}
    answer = await resolve_arguments(asked, build_resolver_plans(asked, set()), {}, context)
    if isinstance(answer, InputRequiredResult):
        return answer
    _require_yes(answer["consent"])
    return None


def _can_ask(context: Context[Any, Any]) -> bool:
    offers = context.client_capabilities and context.client_capabilities.elicitation
    if not offers or (offers.form is None and offers.url is not None):
        return False
    return context.protocol_version == MODERN or context.session.can_send_request


def _require_yes(answer: ElicitationResult[Consent]) -> None:
    match answer:
        case AcceptedElicitation(data=Consent(spend=True)):
            return
    raise NotConfirmed("The confirmation did not come back as a yes, so nothing was sent.")
