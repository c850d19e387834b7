"""The answer of check_credits: what a job costs now, and what stands for or against buying it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, WithJsonSchema

from wan_mcp.errors import Charged, Code, NoKey, Unauthorized
from wan_mcp.models import PriceRow, PriceType, PublishedPrice
from wan_mcp.surface.answers.team_user import step_for
from wan_mcp.wording import counted, duration, number

if TYPE_CHECKING:
    from wan_mcp.ledger.expected_price import CreditReport
    from wan_mcp.ledger.limit_use import LimitUse
    from wan_mcp.ledger.spending_limits import LimitReached
    from wan_mcp.surface.answers.team_user import TeamUser

CONFIRM_ABOVE = "WAN_MCP_CONFIRM_ABOVE"
MAX_ROWS = 8
"""How many prices of a table the answer repeats (ours)."""
_UNITS = {
    "WAN_MCP_MAX_CREDITS_PER_JOB": "credit",
    "WAN_MCP_MAX_CREDITS_PER_DAY": "credit",
    "WAN_MCP_MAX_IN_FLIGHT": "job",
    "WAN_MCP_MAX_SUBMITS_PER_MINUTE": "request",
    "WAN_MCP_MAX_QUEUED": "queued request",
    CONFIRM_ABOVE: "credit",
}
_NOT_IN_TABLE = "PixelDojo's model page names no price for a job of this size."


class LimitLine(BaseModel):
    """One limit of the operator.

    Attributes:
        limit: the setting that holds it; behind a limit of a team, whose it is, in brackets.
        limit_value: left out where there is no limit.
        used: left out where it is not known, and for a limit that is about a single job.
        frees_at: when the first part of what is used is free again, in ISO 8601.
        blocking_job_ids: the jobs that use it until they end; a few of them when they are many.
    """

    model_config = ConfigDict(extra="forbid", defer_build=True)

    limit: str
    limit_value: float | None = None
    used: float | None = None
    frees_at: str | None = None
    blocking_job_ids: list[str] | None = None


class CreditOverview(BaseModel):
    """The published result of check_credits.

    Attributes:
        video_duration: seconds of the job that the price is for.
        resolution: its lines.
        price: the price on PixelDojo's model page, in words.
        price_type: fixed, per_second, per_resolution, table or unknown.
        page_credits: what that page names for this job.
        up_to_credits: what this job costs at most, as far as anything shows; left out if that is
            not known, and `message` says why.
        credits_remaining: the balance that PixelDojo reported last, at `credits_remaining_at`.
        credits_spent_24h: what the jobs of the last 24 hours cost; `credits_spent` is for all jobs
            of this ledger. Of `jobs_without_cost` of them all the cost is not known.
        queued: how many requests wait, and `queued_credits` what is reserved for them.
        refused_by: the setting that would refuse such a job now, until `retry_after_seconds` have
            passed if that is known.
        key_accepted: whether PixelDojo accepts the API key.
    """

    model_config = ConfigDict(extra="forbid", defer_build=True)

    message: str
    video_duration: int | None = None
    resolution: str | None = None
    price: str | None = None
    price_type: Annotated[PriceType | None, WithJsonSchema({"type": "string"})] = None
    page_credits: float | None = None
    up_to_credits: float | None = None
    credits_remaining: float | None = None
    credits_remaining_at: str | None = None
    credits_spent_24h: float | None = None
    credits_spent: float | None = None
    jobs_without_cost: int | None = None
    queued: int | None = None
    queued_credits: float | None = None
    limits: list[LimitLine] | None = None
    refused_by: str | None = None
    key_accepted: Charged | None = None
    charged: Annotated[Charged, WithJsonSchema({"type": "string"})]
    retry_safe: bool | None = None
    retry_after_seconds: int | None = None
    code: Annotated[Code | None, WithJsonSchema({"type": "string"})] = None
    next: str


def credit_overview(
    report: CreditReport, confirm_above: float | None, user: TeamUser | None = None
) -> CreditOverview:
    """The answer of check_credits.

    Args:
        confirm_above: the price above which the user is asked; None if that is never done.
        user: who reads it; None at a server without sign-in.
    """
    known, price = report.credits, report.price
    refusal = known.refusal if known else None
    balance = known.balance if known else None
    limits = [_line(each) for each in report.limits]
    if confirm_above is not None:
        limits.append(LimitLine(limit=CONFIRM_ABOVE, limit_value=confirm_above))
    return CreditOverview(
        message=" ".join(filter(None, _sentences(report))),
        video_duration=report.wanted.seconds,
        resolution=report.wanted.resolution,
        price=_words(report.page) or None,
        price_type=report.page.type,
        page_credits=price.named,
        up_to_credits=price.up_to,
        credits_remaining=balance.credits if balance else None,
        credits_remaining_at=balance.at.isoformat(timespec="seconds") if balance else None,
        credits_spent_24h=known.spent.day_credits if known else None,
        credits_spent=known.spent.credits if known else None,
        jobs_without_cost=known.spent.without_cost if known else None,
        queued=known.queued.requests if known else None,
        queued_credits=known.queued.credits if known and known.queued.requests else None,
        limits=limits,
        refused_by=refusal.setting if refusal else None,
        retry_after_seconds=refusal.wait_seconds if refusal else None,
        key_accepted=_key_accepted(report),
        charged="no",
        next=_next(report, refusal, user),
    )


def credits_text(result: CreditOverview) -> list[str]:
    """The facts of the data that are not in the message, one line for each subject."""
    lines = [_price(result), _refusal(result), _balance(result), _spent(result), _queued(result)]
    return [*lines, *map(_limit, result.limits or [])]


def _line(use: LimitUse) -> LimitLine:
    frees_at = use.frees_at and use.frees_at.at.isoformat(timespec="seconds")
    return LimitLine(
        limit=f"{use.setting} ({use.whose})" if use.whose else use.setting,
        limit_value=use.limit,
        used=use.used,
        frees_at=frees_at or None,
        blocking_job_ids=list(use.job_ids) or None,
    )


def _key_accepted(report: CreditReport) -> Charged:
    if report.key_problem is None:
        return "yes"
    return "no" if isinstance(report.key_problem, NoKey | Unauthorized) else "unknown"


def _sentences(report: CreditReport) -> list[str]:
    """What a reader must know, the price first."""
    price, known = report.price, report.credits
    job = f"a job of {report.wanted.seconds} s at {report.wanted.resolution} lines"
    if price.up_to is not None:
        first = [f"{job.capitalize()} costs up to {counted(price.up_to, 'credit')} now.", price.why]
    else:
        first = [f"What {job} costs is not known.", *_why_unknown(report)]
    refusal = known.refusal if known else None
    return [
        *first,
        _too_little(report),
        f"Such a job would be refused now: {refusal.what}" if refusal else "",
        "Such a job would be queued now." if known and known.would_wait else "",
        _about_key(report),
        f"What was spent is not known: {report.ledger_problem.what}"
        if report.ledger_problem
        else "",
    ]


def _why_unknown(report: CreditReport) -> list[str]:
    price = report.price
    why = price.doubt or report.page.why or _NOT_IN_TABLE
    if price.charged is None:
        return [why]
    return [why, f"The last job like this one cost {counted(price.charged, 'credit')}."]


def _too_little(report: CreditReport) -> str:
    balance, price = report.credits and report.credits.balance, report.price.up_to
    if not balance or price is None or balance.credits >= price:
        return ""
    return "The balance that was last reported is lower than that."


def _about_key(report: CreditReport) -> str:
    problem = report.key_problem
    if problem is None:
        return ""
    if _key_accepted(report) == "no":
        return problem.what
    return f"Whether PixelDojo accepts the API key is not known: {problem.what}"


def _next(report: CreditReport, refusal: LimitReached | None, user: TeamUser | None) -> str:
    if report.key_problem is not None and _key_accepted(report) == "no":
        return step_for(user, report.key_problem)
    if report.ledger_problem is not None:
        return step_for(user, report.ledger_problem)
    if refusal is not None:
        return _next_of_refusal(refusal)
    if _too_little(report):
        who = "they" if user is None or user.has_account else "the operator of this server"
        has = "have" if who == "they" else "has"
        return (
            f"Ask the user whether credits were bought since then; if not, {who} {has} to buy some "
            "on pixeldojo.ai first."
        )
    if report.price.up_to is None:
        return (
            "Tell the user, before a job is started, that its price is not known; the answer of "
            "replace_character says what it cost."
        )
    return "Tell the user the price; replace_character starts such a job."


def _next_of_refusal(refusal: LimitReached) -> str:
    what = "this limit" if refusal.whose else refusal.setting
    only = f"Only the operator of this server can raise {what}."
    if refusal.frees_at is not None:
        return f"{refusal.frees_at} Call replace_character for such a job then. {only}"
    if refusal.next_step != refusal.advice:
        return f"To make room for a call of replace_character: {refusal.next_step}"
    return f"Tell the user. {only}"


def _words(page: PublishedPrice) -> str:
    """The price on the page in words; "" if it is not known."""
    shown = "; ".join(_row(row, page.type) for row in page.rows[:MAX_ROWS])
    more = len(page.rows) - MAX_ROWS
    return f"{shown}; and {counted(more, 'other price')}" if more > 0 else shown


def _row(row: PriceRow, kind: PriceType) -> str:
    seconds = "" if row.seconds is None else f" for {row.seconds} s"
    lines = "" if row.resolution is None else f" at {row.resolution} lines"
    each = " a second" if kind is PriceType.PER_SECOND else seconds or ("" if lines else " a job")
    return f"{counted(row.credits, 'credit')}{each}{lines}"


def _price(result: CreditOverview) -> str:
    """The price of this job, and below it the one on the page."""
    job = f"{result.video_duration} s at {result.resolution} lines"
    most = result.up_to_credits
    up_to = "not known" if most is None else f"up to {counted(most, 'credit')}"
    named = result.page_credits
    this = "" if named is None else f"; for this job: {counted(named, 'credit')}"
    page = f"PixelDojo's model page now: {result.price or 'no usable price'}"
    return f"Price of {job}: {up_to}.\n{page} ({result.price_type}){this}."


def _refusal(result: CreditOverview) -> str:
    if result.refused_by is None:
        return ""
    wait = result.retry_after_seconds
    how_long = "" if wait is None else f", for another {duration(wait)}"
    return f"Refused now by {result.refused_by}{how_long}."


def _balance(result: CreditOverview) -> str:
    if result.credits_remaining is None:
        return "Balance: not known; PixelDojo reports it only in its answer to a submitted job."
    left = counted(result.credits_remaining, "credit")
    return f"Balance: {left}, as PixelDojo last reported at {result.credits_remaining_at}."


def _spent(result: CreditOverview) -> str:
    if result.credits_spent is None or result.credits_spent_24h is None:
        return ""
    day, ever = counted(result.credits_spent_24h, "credit"), number(result.credits_spent)
    without = result.jobs_without_cost or 0
    rest = f", not counting {counted(without, 'job')} whose cost is not known" if without else ""
    return f"Spent: {day} in the last 24 hours, {ever} in all{rest}."


def _queued(result: CreditOverview) -> str:
    if not result.queued:
        return ""
    reserved = counted(result.queued_credits or 0, "credit")
    return f"Queued: {counted(result.queued, 'request')}; reserved: {reserved}, not charged."


def _limit(line: LimitLine) -> str:
    if line.limit_value is None:
        return f"- {line.limit}: no limit"
    unit = _UNITS[line.limit.partition(" ")[0]]
    facts = [f"- {line.limit}: {counted(line.limit_value, unit)}"]
    if line.limit == CONFIRM_ABOVE:
        facts.append("above which the user is asked first")
    if line.used is not None:
        facts.append(f"used {number(line.used)}")
    if line.blocking_job_ids:
        facts.append(f"in flight: {' '.join(line.blocking_job_ids)}")
    if line.frees_at:
        facts.append(f"some of it free again from {line.frees_at} on")
    return ", ".join(facts)
