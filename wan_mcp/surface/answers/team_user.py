"""What a user can do about an error where people sign in.

The advice of most errors is for a person who runs a server of their own, and who can change its
settings, restart it and look into the PixelDojo account. A user of a team's server can do none of
that, except perhaps look into the account.
"""

from __future__ import annotations

from dataclasses import dataclass

from wan_mcp.errors import (
    Code,
    NoKey,
    NotAllowed,
    NotSent,
    OutcomeUnknown,
    OutOfCredits,
    StepBy,
    Unauthorized,
    WanError,
)
from wan_mcp.ledger.contract import LedgerUnavailable

ASK_OPERATOR = (
    "Tell the user what the message says, and to ask the operator of this server: nobody else can "
    "mend that."
)
NO_KEYS_HERE = "Never ask for a key in the conversation."


@dataclass(frozen=True)
class TeamUser:
    """Somebody who has signed in at a server that another person operates.

    Attributes:
        has_account: whether they pay with a PixelDojo key of their own, and so have its account.
        key_page: the address where they can store another key; None if they cannot.
    """

    has_account: bool = False
    key_page: str | None = None


def step_for(user: TeamUser | None, failure: WanError) -> str:
    """What the reader of an answer can do about an error.

    Args:
        user: who reads it; None at a server without sign-in.
    """
    if user is None or not _is_for_others(user, failure):
        return failure.next_step
    match failure:
        case NoKey() | Unauthorized():
            return _about_key(user)
        case OutOfCredits():
            return (
                "Tell the user to ask the operator of this server to buy credits for the PixelDojo "
                "account that pays, then call again. check_credits shows what the job costs."
            )
        case OutcomeUnknown():
            look = "they" if user.has_account else "the operator of this server"
            return (
                "Do not repeat the call: it could be paid twice. Tell the user that a job may have "
                f"been started, and that {look} can look at the recent jobs of the account on "
                "pixeldojo.ai that pays."
            )
        case NotAllowed() if failure.step_by is StepBy.PAYER:
            return (
                "Tell the user to ask the operator of this server to check on pixeldojo.ai what "
                "the API key is allowed to do."
            )
    if failure.code is Code.UNUSABLE_INPUT:
        return f"Give another input, then call again. Otherwise: {ASK_OPERATOR}"
    if failure.retry_safe:
        return (
            "Repeating the same call is safe. If it keeps failing, tell the user what the message "
            "says, and to ask the operator of this server to look into it."
        )
    return f"Nothing was charged. {ASK_OPERATOR}" if isinstance(failure, NotSent) else ASK_OPERATOR


def _is_for_others(user: TeamUser, failure: WanError) -> bool:
    """Whether only somebody else can take the usual next step."""
    if isinstance(failure, LedgerUnavailable):  # its own advice is about a ledger on a disk
        return failure.next_step == failure.advice
    if isinstance(failure, NoKey | Unauthorized):
        return failure.step_by is not None  # also with an account: the key is kept by the server
    if failure.step_by is StepBy.PAYER:  # a user finds here no job by its id on pixeldojo.ai
        return not user.has_account or isinstance(failure, OutcomeUnknown)
    return failure.step_by is StepBy.OPERATOR


def _about_key(user: TeamUser) -> str:
    if user.key_page is not None:
        return (
            "The key may be revoked, or another service's. Tell the user to create another one in "
            f"their account on pixeldojo.ai and to store it at {user.key_page}, and call again "
            "when they say that it is stored. They sign in on the page, or bring their token of "
            "this server. Never ask for a key or a token in the conversation."
        )
    if user.has_account:
        return (
            "The key may be revoked, or another service's. Tell the user to create another one in "
            "their account on pixeldojo.ai and to ask the operator of this server to store it "
            f"(`wan-mcp admin wallet set-key`). {NO_KEYS_HERE}"
        )
    return (
        "Tell the user to ask the operator of this server to check the PixelDojo key that pays for "
        "them: it may be revoked (`wan-mcp admin wallet set-key` stores another one). "
        f"check_credits then shows whether it is accepted. {NO_KEYS_HERE}"
    )
