"""The process that prepares one file, with limits (see `decoder_limits`).

It answers two kinds of questions. `{"handle": ...}` names the open file and what is wanted; the
answer says what has to be changed. `{"work": seconds}` goes on for about that long. So the time
limit for one answer applies to one portion of the work, and the progress is known.
"""

import gc
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from wan_mcp.inputs.decoder_limits import answer_questions
from wan_mcp.inputs.decoder_process import inherited_file
from wan_mcp.inputs.preparing.extras import REMOVED, Extras, extras_of
from wan_mcp.inputs.preparing.survey import NoClip, NotDecodable, Survey, opened, survey
from wan_mcp.inputs.preparing.wanted import Part

MODULE = "wan_mcp.inputs.preparing.preparer"
"""Runs `main` in a process of its own."""
CPU_SECONDS = 900
"""Processor time for one file. 15 s of 10-bit HEVC in 4K with 60 frames per second, the worst that
phones record, take about 200 s, including HDR and a key frame 10 s before the part (ours)."""
MAX_WRITTEN_BYTES = 512 << 20
"""Largest file that is written: 15 s at 270 Mbit/s (ours)."""


def main() -> None:
    """Answer questions on standard input, in a process of its own with a low priority."""
    if hasattr(os, "nice"):
        os.nice(10)
    answer_questions(Preparer().answer, cpu_seconds=CPU_SECONDS, written_bytes=MAX_WRITTEN_BYTES)


class Preparer:
    """Answers the questions about one file."""

    def __init__(self) -> None:
        self._work: Iterator[float] = iter(())
        self._ending: dict[str, Any] = {}
        self._open = ExitStack()

    def answer(self, question: dict[str, Any], parts: list[bytes]) -> dict[str, Any]:
        """The answer to one question; `unusable` or `failed` where there is none."""
        import av

        try:
            if "work" in question:
                return self._done(question["work"])
            file = self._open.enter_context(inherited_file(question["handle"]))
            return self.begin(file, question)
        except NoClip as exc:
            return {"unusable": [exc.name, exc.what, exc.remedy]}
        except NotDecodable:
            return {"failed": "its pictures cannot be decoded here"}
        except MemoryError:
            raise
        except av.FFmpegError as exc:
            return {"failed": f"FFmpeg could not read it ({type(exc).__name__})"}

    def begin(self, file: BinaryIO, question: dict[str, Any]) -> dict[str, Any]:
        """Look at the file, and get ready to write what has to be changed.

        Raises:
            NoClip, NotDecodable, av.FFmpegError, OSError: it cannot be prepared.
        """
        extras, target = extras_of(file), Path(question["target"])
        if question["role"] == "character_image":
            return {"extras": extras, "changes": self._picture(file, extras, target)}
        part = Part(question["start"], question["end"], question["seconds"])
        video = self._open.enter_context(opened(file))
        seen = survey(video, part)
        gc.collect()  # a reference cycle keeps the picture that was decoded
        return {"extras": extras, "changes": self._clip(video, seen, part, extras, target)}

    def _picture(self, file: BinaryIO, extras: Extras, target: Path) -> list[str]:
        from wan_mcp.inputs.preparing.pictures import prepare_picture

        changes, name = prepare_picture(file, extras, target)
        self._ending = {"format": name}
        if changes:
            self._work = _checked(iter(()), target)
        return changes

    def _clip(
        self, video: Any, seen: Survey, part: Part, extras: Extras, target: Path
    ) -> list[str]:
        from wan_mcp.inputs.preparing.writing import write

        changes = [*seen.changes(part), *([REMOVED] if extras else [])]
        self._ending = {"format": "MP4"}
        if changes:
            self._work = _checked(write(video, seen, target), target)
        return changes

    def _done(self, seconds: float) -> dict[str, Any]:
        until = time.monotonic() + seconds
        for share in self._work:
            if time.monotonic() >= until:
                return {"share": share}
        return self._ending


def _checked(work: Iterator[float], target: Path) -> Iterator[float]:
    """Do the work, then check that the result contains nothing that was to be removed."""
    yield from work
    with target.open("rb") as written:
        if extras_of(written) is not Extras.NONE:
            raise NotClean


class NotClean(Exception):
    """The file that was written still has something beside its pictures and its sound."""


if __name__ == "__main__":
    main()
