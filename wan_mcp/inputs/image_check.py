"""Checks the character image: its type and its size."""

from wan_mcp.inputs.file_types import image_size
from wan_mcp.inputs.findings import Findings
from wan_mcp.inputs.remote_file import RemoteFile
from wan_mcp.inputs.verdict import IMAGE, judge

MIN_IMAGE_PIXELS = 256
"""Length of an image's shorter side, below which a face has too few pixels (ours)."""


async def check_image(file: RemoteFile, found: Findings, seconds: float) -> None:
    """Look at the image, and add to what is found.

    Args:
        seconds: limit for the read.

    Raises:
        Unusable: it certainly cannot be used.
        Unreachable: there is no answer.
    """
    await file.read_start(seconds)
    file_type = judge(IMAGE, file)
    if file_type is None:
        return
    found.note_type(IMAGE, file_type, "JPEG or PNG")
    if size := image_size(file.head):
        found.note_size(IMAGE, size, MIN_IMAGE_PIXELS)
