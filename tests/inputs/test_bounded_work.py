"""What the server itself does with a stranger's image is bounded, whatever the image says."""

import struct
from typing import Any

import pytest

from tests.inputs.hostile import PICTURES
from tests.inputs.test_preflight import jpeg, png, whole
from wan_mcp.inputs import image_headers
from wan_mcp.inputs.image_headers import MAX_PARTS, End, end_of, image_size

SEGMENT = b"\xff\xe2\0\2"
END = b"\xff\xd9"
CHUNK = bytes(4) + b"abcdABCD"


class Counting:
    """The module `struct`, which counts how often it is asked."""

    error = struct.error

    def __init__(self) -> None:
        self.asked = 0

    def unpack_from(self, *given: Any) -> tuple[Any, ...]:
        self.asked += 1
        return struct.unpack_from(*given)


@pytest.mark.parametrize("kind", PICTURES)
def test_an_image_of_many_parts_is_not_followed_to_its_end(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a megabyte of segments kept all other calls waiting for 140 ms (measured)."""
    counting = Counting()
    monkeypatch.setattr(image_headers, "struct", counting)
    image_size(PICTURES[kind][:262_144])
    end_of(whole(PICTURES[kind]))

    # A directory of EXIF may fill each of the parts: twelve bytes an entry.
    assert counting.asked <= 2 * MAX_PARTS + 2 + 262_144 // 12


def test_an_image_that_is_not_followed_to_its_end_is_no_verdict() -> None:
    """Its size is not known, and its end may be there."""
    for picture in (PICTURES["many-segments"], PICTURES["many-chunks"]):
        assert end_of(whole(picture)) is End.UNKNOWN
    assert image_size(PICTURES["many-segments"]) is None


@pytest.mark.parametrize("parts", [0, 100, MAX_PARTS - 100])
def test_an_image_of_as_many_parts_as_real_ones_is_judged(parts: int) -> None:
    """Profiles, comments and previews stand before the picture in segments of their own."""
    photo, drawing = jpeg(640, 480), png(640, 480)
    photo = photo[:2] + SEGMENT * parts + photo[2:]
    drawing = drawing[:-12] + CHUNK * parts + drawing[-12:]

    assert image_size(photo) == (640, 480)
    for good, cut in ((photo, photo[: photo.rindex(END)]), (drawing, drawing[:-12])):
        assert (end_of(whole(good)), end_of(whole(cut))) == (End.UNKNOWN, End.MISSING)
