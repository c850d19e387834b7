"""Lines from a pipe; a line that is too long is not kept whole."""

from collections.abc import Iterator

MAX_LINE_BYTES = 4 * 1024 * 1024
"""The longest line that is read, with its line end."""

_END_BYTES = 1_000
"""Bytes at each end of a longer line in which its id is looked for."""


class LongLine:
    """The two ends of a line that was too long to keep."""

    def __init__(self, head: bytes, tail: bytes) -> None:
        self.head = head
        self.tail = tail


Line = bytes | LongLine


def lines(stdin: int) -> Iterator[Line]:
    """Every line up to MAX_LINE_BYTES; of a longer one only its ends are kept."""
    with open(stdin, "rb", closefd=False) as pipe:
        try:
            while line := pipe.readline(MAX_LINE_BYTES + 1):
                if len(line) <= MAX_LINE_BYTES:
                    yield line
                    continue
                _warn()
                head, tail = line[:_END_BYTES], line[-_END_BYTES:]
                while line and not line.endswith(b"\n"):
                    line = pipe.readline(MAX_LINE_BYTES)
                    tail = (tail + line)[-_END_BYTES:]
                yield LongLine(head, tail)
        except OSError:  # a reset socket is the end
            return


def _warn() -> None:
    import logging  # here, because hardly any host sends such a line

    text = "wan-mcp: ignored a line of more than %d bytes"
    logging.getLogger(__name__).warning(text, MAX_LINE_BYTES)
