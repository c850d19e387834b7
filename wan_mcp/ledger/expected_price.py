"""What a job will probably cost: the higher of PixelDojo's model page and the last real charge.

The page may be out of date, or name the price of another kind of job. If a limit in credits relied
on the page alone, jobs could cost many times what the operator allows.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from wan_mcp.ledger.fingerprint import DEFAULTS, Arguments
from wan_mcp.models import Replacement
from wan_mcp.wording import counted

SEARCHED_JOBS = 50
"""How many of the newest charges are searched for that of a similar job (ours)."""


class Charge(NamedTuple):
    """What one job was charged.

    Attributes:
        arguments: what was asked for, as the record has it.
        credits: what PixelDojo charged, above 0.
    """

    arguments: Arguments
    credits: float


@dataclass(frozen=True)
class ExpectedPrice:
    """The two sources of the price of a new job, in credits.

    Attributes:
        named: the price on the model page; None if it cannot be read.
        charged: what PixelDojo charged for the last job like this one; None if there was none.
    """

    named: float | None
    charged: float | None = None

    @property
    def credits(self) -> float | None:
        """The expected price; None if the page names none, which stays unknown."""
        return None if self.named is None else max(self.named, self.charged or 0.0)

    @property
    def why(self) -> str:
        """Why another price counts than the one on the page, in a sentence; "" if none does."""
        if self.named is None or self.charged is None or self.charged <= self.named:
            return ""
        return (
            f"The last job like this one cost {counted(self.charged, 'credit')}, although "
            f"PixelDojo's model page names {counted(self.named, 'credit')}: the higher price "
            "counts."
        )


def expected_price(
    named: float | None, wanted: Replacement, charges: Iterable[Charge]
) -> ExpectedPrice:
    """The price to expect of a request.

    If no job of the same kind was charged, the last one that was neither longer nor had more lines
    counts: a larger job costs at least as much (assumed).

    Args:
        named: the price on the model page; None if it cannot be read.
        charges: of the account, newest first.
    """
    kind = _Kind.of(wanted.model_dump(exclude_none=True))
    smaller: float | None = None
    for charge in charges:
        other = _Kind.of(charge.arguments)
        if other == kind:
            return ExpectedPrice(named, charge.credits)
        if smaller is None and other.is_within(kind):
            smaller = charge.credits
    return ExpectedPrice(named, smaller)


@dataclass(frozen=True)
class _Kind:
    """What the price of a job may depend on (assumed: its size and its speed, not its inputs)."""

    seconds: int
    lines: int
    options: tuple[object, object]

    @classmethod
    def of(cls, arguments: Arguments) -> "_Kind":
        full = DEFAULTS | arguments
        options = (full["go_fast"], full.get("frames_per_second"))
        return cls(int(full.get("seconds", 0)), int(full["resolution"]), options)

    def is_within(self, other: "_Kind") -> bool:
        """Whether a job of the other kind is no smaller."""
        smaller = self.seconds <= other.seconds and self.lines <= other.lines
        return smaller and self.options == other.options
