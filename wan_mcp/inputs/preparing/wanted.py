"""The part of a clip that is sent."""

from dataclasses import dataclass

MARGIN_SECONDS = 0.5
"""How much more than was ordered is sent, if the clip goes on: models of this family make 4n + 1
frames (observed elsewhere), and four frames at 8 per second, the lowest rate, take half a second
(ours)."""
SLACK_SECONDS = 1.0
"""A clip that is longer by no more than this is not cut for that reason alone (ours)."""


@dataclass(frozen=True)
class Part:
    """The part of a clip that a job needs, in seconds from the first picture of the clip on.

    Attributes:
        start: where it begins.
        end: where the media fragment ends; None if that is the end of the clip.
        ordered: the length of the result.
    """

    start: float
    end: float | None
    ordered: float

    @property
    def until(self) -> float:
        """Where the part that is sent ends."""
        enough = self.start + self.ordered + MARGIN_SECONDS
        return enough if self.end is None else min(self.end, enough)
