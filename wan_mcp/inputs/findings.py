"""The findings of the preflight so far, about both inputs."""

from dataclasses import dataclass, field

from wan_mcp.errors import Refused
from wan_mcp.inputs.file_types import FileType
from wan_mcp.inputs.local.references import Fragment
from wan_mcp.inputs.verdict import IMAGE, VIDEO, Role, Unusable
from wan_mcp.models import Replacement, SourceClip

MAX_ASPECT_QUOTIENT = 3.0
"""Quotient of two aspect ratios: it is 3.2 for 16:9 and 9:16, and 2.7 for 16:9 and 2:3 (ours)."""


@dataclass
class Findings:
    """The known facts about both inputs.

    Attributes:
        fragment: the part of the clip that is meant.
        refusals: why files of this computer cannot be looked at.
        is_prepared: whether an input is brought into the usual form before it is sent, by the
            argument's name; if so, its form needs no note.
        sizes: width and height in pixels, by the argument's name.
        unchecked: why an input could not be checked, by the argument's name.
        length_doubt: a note on the clip's length, until that has been counted.
        source: what the header of the video says, for the inspection of the result.
    """

    wanted: Replacement
    fragment: Fragment = field(default_factory=Fragment)
    refusals: list[Refused] = field(default_factory=list)
    is_prepared: dict[str, bool] = field(default_factory=dict)
    problems: list[Unusable] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    unchecked: dict[str, str] = field(
        default_factory=lambda: dict.fromkeys((VIDEO.name, IMAGE.name), "it took too long")
    )
    length_doubt: str = ""
    source: SourceClip = field(default_factory=SourceClip)

    def note_type(self, role: Role, file_type: FileType, safest: str) -> None:
        """Note a format that not every program reads."""
        if not file_type.common and not self.is_prepared.get(role.name):
            self.notes.append(
                f"{role.name} is {file_type.name}: PixelDojo documents no formats, {safest} is "
                "safest."
            )

    def note_size(self, role: Role, size: tuple[int, int], min_side: int) -> None:
        """Keep the size, and note if it is too small for a good result."""
        self.sizes[role.name] = size
        if min(size) < min_side:
            self.notes.append(f"{role.name} is only {size[0]} x {size[1]} pixels: expect little.")

    def all_notes(self) -> list[str]:
        """Every note, video first."""
        doubts = [self.length_doubt] if self.length_doubt else []
        return [
            *(f"{name} could not be looked at from here: {why}." for name, why in self._unchecked),
            # Both checks add notes as they find them; the order of the answer is fixed.
            *sorted([*self.notes, *doubts], reverse=True),
            *self._notes_on_shapes(),
        ]

    @property
    def _unchecked(self) -> list[tuple[str, str]]:
        return [(n, self.unchecked[n]) for n in (VIDEO.name, IMAGE.name) if n in self.unchecked]

    def _notes_on_shapes(self) -> list[str]:
        if len(self.sizes) < 2:
            return []
        ratios = [width / height for width, height in self.sizes.values()]
        if max(ratios) / min(ratios) <= MAX_ASPECT_QUOTIENT:
            return []
        (video, image) = (f"{w} x {h}" for w, h in (self.sizes[VIDEO.name], self.sizes[IMAGE.name]))
        return [f"The shapes are far apart: the clip is {video}, the picture {image} pixels."]
