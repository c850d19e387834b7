"""Everything that can go wrong, divided by what the caller may do next.

    WanError
    |- Refused             nothing was bought
    |  |- InvalidArguments   by us, before anything was sent
    |  |- NoKey              by us: no API key is configured
    |  |- Unauthorized       401
    |  |- OutOfCredits       402, or 403 with a credits code
    |  |- NotAllowed         403
    |  |- NotFound           404
    |  |- Rejected           400, 413, 415, 422 and redirects that change nothing
    |  `- RateLimited        429
    |- NotSent             no byte of the paid request was sent: safe to repeat
    |- OutcomeUnknown      the paid request may have been received: never repeated by a machine
    `- CouldNotFindOut     a free read failed; the job itself is not affected
       `- Busy               by us: too many calls, or requests, at once

Every error answers four questions: what happened (its text), whether this call was charged,
whether the same call may succeed later without being paid twice, and what to do next. No error
contains the API key.
"""

import errno
import math
import os
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import ClassVar, Literal, Self

Charged = Literal["no", "yes", "unknown"]


class Code(StrEnum):
    """What went wrong with a call, in a word for programs.

    It is published in the schemas of the tools. Each word is explained here and nowhere else; the
    resource `wan://codes` and docs/tools.md repeat these sentences.

    Attributes:
        explanation: what the word means, in a sentence.
    """

    explanation: str

    def __new__(cls, word: str, explanation: str) -> Self:
        code = str.__new__(cls, word)
        code._value_ = word
        code.explanation = explanation
        return code

    INVALID_ARGUMENTS = (
        "invalid_arguments",
        "The arguments cannot be used; the message names every problem.",
    )
    UNUSABLE_INPUT = (
        "unusable_input",
        "The preflight found that no job can work with the clip or the picture; nothing was sent.",
    )
    NO_API_KEY = "no_api_key", "This server has no PixelDojo API key."
    UNAUTHORIZED = "unauthorized", "PixelDojo does not accept the API key."
    INSUFFICIENT_CREDITS = (
        "insufficient_credits",
        "The PixelDojo account has too few credits for the job.",
    )
    FORBIDDEN = (
        "forbidden",
        "PixelDojo does not allow this to the API key, or a proxy turned this computer away.",
    )
    NOT_FOUND = (
        "not_found",
        "Nothing is known under this job_id, or under this upload; of a paid call also: PixelDojo "
        "does not know the model.",
    )
    REJECTED = "rejected", "PixelDojo turned the request down, and would do so again."
    RATE_LIMITED = "rate_limited", "PixelDojo asks for fewer requests."
    NOT_SENT = "not_sent", "No byte of the paid request left this computer."
    OUTCOME_UNKNOWN = (
        "outcome_unknown",
        "The paid request was sent and its answer was lost: a job may have been started.",
    )
    COULD_NOT_FIND_OUT = (
        "could_not_find_out",
        "PixelDojo could not be asked; the job itself goes on.",
    )
    BUSY = "busy", "Too much is under way here at once, so PixelDojo was not asked."
    LIMIT_REACHED = "limit_reached", "A spending limit of this server's operator refuses the job."
    NOT_CONFIRMED = (
        "not_confirmed",
        "The user has to agree to a job of this price, and that did not happen.",
    )
    PRICE_ROSE = "price_rose", "The expected price is higher now than what the user agreed to."
    LEDGER_UNAVAILABLE = (
        "ledger_unavailable",
        "The record of paid requests cannot be used, and nothing is bought without it.",
    )
    INTERNAL_ERROR = "internal_error", "A defect of wan-mcp; the server's log has the details."


SOON_SECONDS = 120.0
"""The longest wait after which a program may be asked to repeat its call (ours): a loop that waits
for what takes hours spins, and a person should decide."""

NO_FILES_LEFT = "this program has as many files and connections open as the system allows"
_SHORTAGE = {errno.EMFILE, errno.ENFILE}


class StepBy(Enum):
    """The only person who can take a next step. At a server for a team, a user may be neither."""

    OPERATOR = auto()
    """The person who runs the server, and has its settings, its computer and its network."""
    PAYER = auto()
    """The person who has the PixelDojo account that pays."""


@dataclass(frozen=True)
class Figures:
    """The figures of a limit that stands against a call.

    Attributes:
        limit: its name: that of the environment variable that holds it.
        value: the limit itself, in what it limits: credits, jobs or requests.
        used: how much of it is used up; None when that is not known.
        blocking_job_ids: the jobs that have to end first; a few of them when they are many.
    """

    limit: str
    value: float
    used: float | None
    blocking_job_ids: tuple[str, ...] = ()


class WanError(Exception):
    """An expected failure, with texts that a language model may read.

    Args:
        what: one plain sentence that says what happened.
        next_step: what to do now; if left out, the advice of the class.
        step_by: the only person who can do what `next_step` says; None for the caller.
        retry_after: seconds until the same call makes sense, such as those that PixelDojo asks
            for; None if that is not known.

    Attributes:
        charged: whether this call cost credits; an earlier call that it joined does not count.
        retry_safe: whether the same call may succeed within SOON_SECONDS and cannot be paid
            twice; if that depends on more than the class, it is set on the error itself.
        usual_wait: seconds to wait before the same call where nothing names a time (ours).
        job_id: the id to ask about later, if a job may have been started.
        figures: those of the limit that was reached, if it was a limit.
        upload_page: where the user can upload the files that the call needs, if it lacks any.
        key_page: where the user can store the PixelDojo key that the call needs, if it lacks one.
    """

    code: ClassVar[Code]
    charged: Charged = "no"
    retry_safe: bool = False
    usual_wait: ClassVar[float] = 60.0
    advice: ClassVar[str]
    step_by: StepBy | None = None
    figures: Figures | None = None
    upload_page: str | None = None
    key_page: str | None = None

    def __init__(
        self,
        what: str,
        *,
        next_step: str | None = None,
        step_by: StepBy | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.next_step = next_step or self.advice
        if next_step:
            self.step_by = step_by
        self.retry_after = retry_after
        self.job_id: str | None = None
        if retry_after is not None and retry_after > SOON_SECONDS:
            self.retry_safe = False

    @property
    def wait_seconds(self) -> int | None:
        """Whole seconds until the same call makes sense, at least 1; None if that is not known."""
        seconds = self.retry_after
        if seconds is None:
            if not self.retry_safe:
                return None
            seconds = self.usual_wait
        return max(math.ceil(seconds), 1)


class Refused(WanError):
    """Nothing was bought: we or PixelDojo refused the request."""


class InvalidArguments(Refused):
    """The arguments of a call cannot be used; the text names all problems."""

    code = Code.INVALID_ARGUMENTS
    advice = "Correct the named arguments and call again."


class NoKey(Refused):
    """No API key is configured, and the call needs one."""

    code = Code.NO_API_KEY
    step_by: StepBy | None = StepBy.PAYER
    advice = (
        "Ask the user to create an API key in their account on pixeldojo.ai and to set it as "
        "PIXELDOJO_API_KEY in the `env` of this server's entry in their MCP client's "
        "configuration, then to restart the client; check_credits then shows whether it is "
        "accepted. Never ask for the key in the conversation."
    )


class Unauthorized(Refused):
    """PixelDojo does not accept the API key (401)."""

    code = Code.UNAUTHORIZED
    step_by = StepBy.PAYER
    advice = (
        "Ask the user to check PIXELDOJO_API_KEY in this server's configuration (it may be "
        "incomplete, revoked, or another service's), then to restart the client; check_credits "
        "then shows whether it is accepted."
    )


class OutOfCredits(Refused):
    """The account cannot pay for the job (402)."""

    code = Code.INSUFFICIENT_CREDITS
    step_by = StepBy.PAYER
    advice = (
        "Ask the user to buy credits on pixeldojo.ai, then call again. check_credits shows what "
        "the job costs."
    )


class NotAllowed(Refused):
    """The key is valid but may not do this (403)."""

    code = Code.FORBIDDEN
    step_by = StepBy.PAYER
    advice = "Ask the user to check on pixeldojo.ai what this API key is allowed to do."


class NotFound(Refused):
    """PixelDojo knows no such thing (404)."""

    code = Code.NOT_FOUND
    advice = (
        "Check the job_id: use exactly the one that replace_character returned; list_jobs shows "
        "the ids."
    )


class Rejected(Refused):
    """PixelDojo refused the request itself, and would refuse the same request again.

    Args:
        field: the field of the request that PixelDojo's answer names, if it names one.
    """

    code = Code.REJECTED
    advice = "Change what PixelDojo objects to, then call again."

    def __init__(
        self, what: str, *, field: str | None = None, next_step: str | None = None
    ) -> None:
        super().__init__(what, next_step=next_step)
        self.field = field


class RateLimited(Refused):
    """PixelDojo asks for fewer requests (429); nothing was started."""

    code = Code.RATE_LIMITED
    retry_safe = True
    advice = "Wait for the time named (a minute if none is named), then repeat the same call."


_ASK_FIRST = (
    "Nothing was charged. Ask the user to mend what the message names (the network, the proxy "
    "settings, PIXELDOJO_API_BASE), then call again."
)


class NotSent(WanError):
    """No byte of the paid request left this machine, so nothing can have been charged.

    Args:
        transient: whether trying again soon may help (not with a bad certificate, for example).
    """

    code = Code.NOT_SENT
    step_by = StepBy.OPERATOR
    retry_safe = True
    usual_wait = 10.0
    advice = (
        "Repeating the same call is safe. If it keeps failing, ask the user to check the network, "
        "the proxy settings and PIXELDOJO_API_BASE."
    )

    def __init__(
        self,
        what: str,
        *,
        transient: bool = True,
        next_step: str | None = None,
        step_by: StepBy | None = None,
    ) -> None:
        if next_step is None and not transient:
            next_step, step_by = _ASK_FIRST, StepBy.OPERATOR
        super().__init__(what, next_step=next_step, step_by=step_by)
        self.transient = transient
        self.retry_safe = transient


class OutcomeUnknown(WanError):
    """PixelDojo may have received the paid request, and no answer came: a charge is possible."""

    code = Code.OUTCOME_UNKNOWN
    step_by = StepBy.PAYER
    charged: Charged = "unknown"
    advice = (
        "Do not repeat the call: it could be paid twice. Tell the user that a job may have been "
        "started, and ask them to look at the recent jobs of their account on pixeldojo.ai; "
        "with a job's id, get_job_status goes on from there."
    )


class CouldNotFindOut(WanError):
    """A free read failed. The job is not affected and goes on.

    Args:
        transient: whether asking again soon may help.
    """

    code = Code.COULD_NOT_FIND_OUT
    retry_safe = True
    advice = "The job itself is not affected. Call again in a minute."

    def __init__(
        self, what: str, *, transient: bool = True, retry_after: float | None = None
    ) -> None:
        next_step = None if transient else "The job itself is not affected. Tell the user."
        super().__init__(what, next_step=next_step, retry_after=retry_after)
        self.transient = transient
        self.retry_safe = self.retry_safe and transient


class Busy(CouldNotFindOut):
    """PixelDojo was not asked: its requests per minute, or our waiting calls, are used up."""

    code = Code.BUSY
    advice = "The job itself is not affected. Call again when the time named is over."


def shows_no_files_left(error: BaseException | None) -> bool:
    """Whether an error, or one of its causes, says that no file or socket can be opened (ours).

    The operation did not begin. It works again when something else has been closed.
    """
    if isinstance(error, BaseExceptionGroup):
        return any(shows_no_files_left(each) for each in error.exceptions)
    if error is None:
        return False
    is_shortage = isinstance(error, OSError) and error.errno in _SHORTAGE
    return is_shortage or shows_no_files_left(error.__cause__ or error.__context__)


def files_are_used_up(needed: int = 8) -> bool:
    """Whether this many files cannot be opened now; for a library whose errors do not say so.

    A library opens several in turn, and has closed them again when its error arrives.
    """
    with ExitStack() as opened:
        try:
            for _ in range(needed):
                opened.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            return shows_no_files_left(error)
    return False
