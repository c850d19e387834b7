"""Inspection: is a saved video what was ordered? A difference is reported, never an error.

A difference is named only if it is certain, and if the order says what the value should be.
Anything that PixelDojo does not document, or that is not known of the source clip, is not compared.
These are the tolerances, with their reasons:

* **Length** (`seconds`): `video_duration`, give or take 0.25 s and at least five frames. Models of
  this family make 4n + 1 frames and round to that (observed elsewhere), and encoders lose or add a
  frame at the ends. Where the clip is known to be shorter than was ordered, its own length is
  enough.
* **Lines** (`lines`): PixelDojo does not say whether `resolution` counts the shorter side, the
  longer one or the height: any side may have it, give or take 16 pixels, because models round sides
  to multiples of 16 or 32. Models of this family also keep the area of a 16:9 frame with that many
  lines, whatever the shape of the clip is (observed elsewhere): then the area may be 15 % off,
  since 480 lines are 832 or 854 pixels wide. Half as many lines have a quarter of the area. An
  order that names no resolution is not compared.
* **Frame rate** (`frames_per_second`): only if it was ordered, give or take 0.5 or 3 %, as 29.97 is
  for 30. The rate of the file can be worked out in several ways, and one that fits is enough. So is
  the clip's own rate if that is lower: a submit says so beforehand, and whether PixelDojo makes
  up frames is not documented.
* **Sound** (`sound`): only missing sound is named, if `merge_audio` is on, which it is unless it
  was turned off (documented), and if the clip is known to have sound in the part that was ordered.
* **Pictures** (`pictures`): there are none, or each of them shows one plain colour.
* **Decodable** (`decodable`): a picture cannot be decoded whole, or the file ends before the last
  one that its index lists. Every picture is decoded; sound is not.

If something could not be inspected, because the process that decodes crashed, hung, or took too
much memory or time, that is reported as well, as `inspection`. It says nothing about the video.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

import anyio
from anyio.lowlevel import RunVar

from wan_mcp.inputs.decoder_process import DecoderProcess, NotLookedAt, started
from wan_mcp.ledger.record import Record
from wan_mcp.models import Difference
from wan_mcp.videos.content import MODULE, Content, Decoded
from wan_mcp.wording import number

PACKETS_AT_ONCE = 32
"""How many packets are decoded for one answer, within `decoder_process.ANSWER_SECONDS`. That allows
half a second for each, and the slowest ones take 40 ms (measured for noise in 4K)."""
TOLERANCE_SECONDS = 0.25
TOLERANCE_FRAMES = 5
TOLERANCE_PIXELS = 16
TOLERANCE_AREA = 0.15
TOLERANCE_RATE = 0.5
TOLERANCE_RATE_SHARE = 0.03

_at_once: RunVar[anyio.CapacityLimiter] = RunVar("_at_once")
logger = logging.getLogger(__name__)


async def inspect(path: Path, record: Record) -> list[Difference]:
    """How a saved video differs from its order; empty if nothing differs.

    It takes as long as decoding does, a second or two. It raises nothing: a check that failed is
    part of the result.
    """
    found: list[Difference] = []
    try:
        # One at a time, so that a process is always left for an input that is to be paid for.
        async with _one_at_a_time(), started(MODULE) as process:
            await _look(process, path, record, found)
    except NotLookedAt as exc:
        found.append(_not_inspected(exc.why))
    except Exception as exc:
        # An extra must not prevent the answer that says where the video is.
        logger.exception("the inspection of %s failed", path.name)
        found.append(_not_inspected(f"the inspection itself failed ({type(exc).__name__})"))
    return found


async def _look(
    process: DecoderProcess, path: Path, record: Record, found: list[Difference]
) -> None:
    """Add what is found, first what the container shows, then what decoding shows."""
    answer = await process.ask({"path": str(path)})
    if "damaged" in answer:
        found.append(_damaged("cannot be opened"))
        return
    content = Content(**answer["content"])
    found.extend(differences(record, content))
    if not content.has_pictures:
        return
    ended = False
    while not ended:
        answer = await process.ask({"decode": PACKETS_AT_ONCE})
        ended = answer["ended"]
    found.extend(damages(content, Decoded(**answer["decoded"])))


def differences(record: Record, content: Content) -> Iterator[Difference]:
    """How the container of a video differs from the order of a record."""
    if not content.has_pictures:
        yield Difference(what="pictures", expected="yes", seen="none")
    else:
        yield from _in_length(record, content)
        yield from _in_lines(record, content)
        yield from _in_rate(record, content)
    wants_sound = record.arguments.get("merge_audio", True)
    if wants_sound and record.source.has_sound and not content.has_sound:
        yield Difference(what="sound", expected="yes", seen="none")


def damages(content: Content, decoded: Decoded) -> Iterator[Difference]:
    """The differences that decoding a video to its last picture has shown."""
    seconds = content.seconds or 0.0
    if not decoded.frames:
        yield _damaged("not one frame")
        return
    if decoded.damaged_at is not None:
        yield _damaged(f"damaged at {_rounded(decoded.damaged_at)} s")
    elif content.is_cut:
        yield _damaged(f"cut off after {_rounded(seconds)} s")
    elif decoded.until + _frames_or_more(content) < seconds:
        yield _damaged(f"damaged after {_rounded(decoded.until)} s")
    if decoded.is_flat:
        yield Difference(what="pictures", expected="yes", seen="one plain colour")


def _in_length(record: Record, content: Content) -> Iterator[Difference]:
    ordered, seen = record.arguments.get("seconds"), content.seconds
    if ordered is None or seen is None:
        return
    longest = float(ordered)
    shortest = min(longest, record.source.seconds or longest)
    tolerance = _frames_or_more(content)
    if not shortest - tolerance <= seen <= longest + tolerance:
        yield Difference(what="seconds", expected=_rounded(longest), seen=_rounded(seen))


def _frames_or_more(content: Content) -> float:
    """The tolerance of a length, in seconds."""
    return max(TOLERANCE_SECONDS, TOLERANCE_FRAMES / next(iter(content.rates), 30.0))


def _in_lines(record: Record, content: Content) -> Iterator[Difference]:
    ordered = record.arguments.get("resolution")
    if ordered is None:
        return
    lines, sides = int(ordered), (content.width, content.height)
    area = content.width * content.height / (lines * lines * 16 / 9)
    fits = any(abs(side - lines) <= TOLERANCE_PIXELS for side in sides)
    if not fits and abs(area - 1) > TOLERANCE_AREA:
        yield Difference(what="lines", expected=f"{lines}", seen="{} x {}".format(*sides))


def _in_rate(record: Record, content: Content) -> Iterator[Difference]:
    ordered = record.arguments.get("frames_per_second")
    if ordered is None or not content.rates:
        return
    expected, source = float(ordered), record.source.frames_per_second
    accepted = [expected] if source is None else [expected, min(expected, source)]
    if not any(_is_rate(seen, rate) for seen in content.rates for rate in accepted):
        measured = _rounded(content.rates[0])
        yield Difference(what="frames_per_second", expected=_rounded(expected), seen=measured)


def _is_rate(seen: float, rate: float) -> bool:
    return abs(seen - rate) <= max(TOLERANCE_RATE, TOLERANCE_RATE_SHARE * rate)


def _damaged(seen: str) -> Difference:
    return Difference(what="decodable", expected="to the last frame", seen=seen)


def _not_inspected(why: str) -> Difference:
    return Difference(what="inspection", expected="done", seen=f"could not be looked at: {why}")


def _rounded(value: float) -> str:
    return number(round(value, 2))


def _one_at_a_time() -> anyio.CapacityLimiter:
    try:
        return _at_once.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(1)
        _at_once.set(limiter)
        return limiter
