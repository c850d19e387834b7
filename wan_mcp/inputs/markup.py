"""The root element of HTML, SVG and other markup, found in one pass over the first bytes.

Strangers choose these bytes, and this runs in the event loop. So nothing here backtracks: each
byte is read a fixed number of times, whatever the file contains.
"""

import re

MAX_BYTES = 65_536
"""How many bytes are searched for the root element: pages begin with a comment of a few kilobytes
at most (assumed)."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SPACES = re.compile(rb"[ \t\r\n\f\v]*")
_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9:_-]{0,31}")
_DOCTYPE = re.compile(rb"<!doctype\s{1,99}", re.IGNORECASE)


def root_element(head: bytes) -> str | None:
    """The name of the first element or of the document type, in lower case, without a prefix.

    None if the bytes do not begin with markup. Comments, processing instructions and white space
    before it are skipped.
    """
    text = head[:MAX_BYTES]
    at = len(_BYTE_ORDER_MARK) if text.startswith(_BYTE_ORDER_MARK) else 0
    while True:
        at = _end_of_spaces(text, at)
        if text.startswith(b"<!--", at):
            # As in browsers, "<!-->" is a whole comment.
            after = _end_of(text, b"-->", at + 2)
        elif text.startswith(b"<?", at):
            after = _end_of(text, b"?>", at + 2)
        else:
            return _name_at(text, at)
        if after is None:
            return None
        at = after


def _end_of_spaces(text: bytes, at: int) -> int:
    found = _SPACES.match(text, at)
    assert found is not None  # it may match nothing, and always matches
    return found.end()


def _end_of(text: bytes, mark: bytes, at: int) -> int | None:
    found = text.find(mark, at)
    return None if found < 0 else found + len(mark)


def _name_at(text: bytes, at: int) -> str | None:
    if doctype := _DOCTYPE.match(text, at):
        at = doctype.end()
    elif text.startswith(b"<", at):
        at += 1
    else:
        return None
    name = _NAME.match(text, at)
    return name[0].decode().lower().rpartition(":")[2] if name else None
