"""How an input names a file, or the video of an earlier job, in place of a link.

    ~/Videos/dance.mov                    a path in the user's home folder
    /home/ana/Videos/dance.mov            a full path; on Windows C:\\Users\\ana\\Videos\\dance.mov
    file:///home/ana/My%20clip.mov        a file URI (RFC 8089) of this computer, percent-escaped
    wan://jobs/{job_id}/video             the video of an earlier job; `/film` is an older name
    wan://uploads/{id}                    a file that its user uploaded to the server

Each may end in a media fragment of time (W3C Media Fragments 1.0), in seconds or as h:mm:ss:
`#t=12`, `#t=12,17`, `#t=,5`, `#t=0:12` and `#t=npt:12,17`. In a path a `#` without `t=` belongs to
the name; in a URI such a `#` has to be written %23.

Nothing here looks at a file. No message repeats the given text.
"""

import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from urllib.parse import quote, unquote, unquote_to_bytes

from wan_mcp.models import JOB_ID, UPLOADS
from wan_mcp.wording import number

MAX_PATH = 4_096
"""The most characters of a reference: Linux accepts no longer path (documented)."""

_SECONDS = re.compile(r"[0-9]{1,6}(?:\.[0-9]{0,6})?")
_CLOCK = re.compile(r"(?:([0-9]{1,3}):)?([0-9]{1,2}):([0-9]{1,2}(?:\.[0-9]{0,6})?)")
_JOB = re.compile(rf"wan://jobs/({JOB_ID})/(?:video|film)", re.IGNORECASE)
_UPLOAD = re.compile(r"(?i:wan://uploads)/((?:video|image)_[a-z2-7]{16})")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_DRIVE = re.compile(r"[A-Za-z]:")
_DEVICE = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3]) *(?:\..*)?",
    re.IGNORECASE,
)
"""Names that are devices of Windows in every folder, even with a suffix (documented)."""
_LIKE_A_HOST = re.compile(r"[\w-]+(?:\.[\w-]+)+(?::[0-9]+)?[/?#]")
_NEVER_IN_A_PATH = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")

_NO_TIME = "has a fragment that is not a time in seconds, as #t=12 or #t=12,17"
_NOT_FULL = "must be a link (https://...), or the full path of a file, which starts with {start}"
_SHARE = "is on another computer, whose files are not opened from here (copy the file to this one)"


@dataclass(frozen=True)
class Fragment:
    """The part of a clip that is meant.

    Attributes:
        start: where it begins, in seconds from the beginning of the clip.
        end: where it ends, later than `start`; None for the end of the clip.
    """

    start: float = 0.0
    end: float | None = None

    def __str__(self) -> str:
        """The fragment as the end of a URI; "" for the whole clip."""
        if self.end is not None:
            return f"#t={number(self.start)},{number(self.end)}"
        return f"#t={number(self.start)}" if self.start else ""


@dataclass(frozen=True)
class FileReference:
    """A file of this computer, which may not exist.

    Attributes:
        path: its full path, as it was written.
        uri: its `file:` URI with the fragment, always written the same way.
    """

    path: PurePath
    fragment: Fragment = field(default_factory=Fragment)

    @property
    def uri(self) -> str:
        text = self.path.as_posix()
        return f"file://{'' if text[:1] == '/' else '/'}{_quoted(text)}{self.fragment}"


@dataclass(frozen=True)
class JobReference:
    """The video of an earlier job.

    Attributes:
        job_id: an id as the caller has it, which may be a submission id.
        uri: its URI with the fragment, always written the same way.
    """

    job_id: str
    fragment: Fragment = field(default_factory=Fragment)

    @property
    def uri(self) -> str:
        return f"wan://jobs/{self.job_id}/video{self.fragment}"


@dataclass(frozen=True)
class UploadReference:
    """A file that its user uploaded to the server, or may still upload.

    Attributes:
        id: the id of the upload.
        uri: its URI with the fragment, always written the same way.
    """

    id: str
    fragment: Fragment = field(default_factory=Fragment)

    @property
    def uri(self) -> str:
        return f"{UPLOADS}{self.id}{self.fragment}"


Reference = FileReference | JobReference | UploadReference
"""What an input may refer to, if it is not a link."""


def reference(
    text: str, *, home: PurePath | None = None, windows: bool = sys.platform == "win32"
) -> Reference | None:
    """What an input refers to; None if it is meant as a link.

    Args:
        text: the input as it was given.
        home: the user's home folder; the one that the system names if left out.
        windows: whether paths are those of Windows.

    Raises:
        ValueError: it is malformed; the text is the rest of a sentence that begins with the
            argument's name.
    """
    scheme = _scheme(text)
    if scheme not in ("", "file", "wan") or (not scheme and _LIKE_A_HOST.match(text)):
        return None
    if len(text) > MAX_PATH:
        raise ValueError(f"is longer than {MAX_PATH:,} characters")
    if _NEVER_IN_A_PATH.search(text) or not _is_unicode(text):
        raise ValueError("contains control characters, or others that no name of a file has")
    if scheme == "wan":
        return _of_server(text)
    if scheme == "file":
        before, has_fragment, after = text.partition("#")
        return FileReference(
            _path_of_uri(before, windows), _fragment(unquote(after)) if has_fragment else Fragment()
        )
    before, has_fragment, after = text.rpartition("#")
    if has_fragment and after.startswith("t="):
        return FileReference(_full_path(before, home, windows), _fragment(after))
    return FileReference(_full_path(text, home, windows))


def _scheme(text: str) -> str:
    """The scheme of a URI, in lower case; "" for a path, even one with a drive letter."""
    found = _SCHEME.match(text)
    return found[1].lower() if found else ""


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_elsewhere(text: str) -> bool:
    """Whether a text names a file on its author's computer, or contains one, and is no link."""
    scheme = _scheme(text)
    is_link = text.startswith("//") or _LIKE_A_HOST.match(text)
    return scheme in ("file", "data") or (not scheme and not is_link)


def _of_server(text: str) -> JobReference | UploadReference:
    before, has_fragment, after = text.partition("#")
    fragment = _fragment(unquote(after)) if has_fragment else Fragment()
    if found := _UPLOAD.fullmatch(before):
        return UploadReference(found[1], fragment)
    if found := _JOB.fullmatch(before):
        return JobReference(found[1], fragment)
    if before[: len(UPLOADS)].lower() == UPLOADS:
        raise ValueError(f"must be {UPLOADS}{{id}}, exactly as the answer or the page showed it")
    raise ValueError("must be wan://jobs/{job_id}/video with the job_id of an earlier job")


def _fragment(text: str) -> Fragment:
    times = text.removeprefix("t=").removeprefix("npt:")
    start, has_end, end = times.partition(",")
    if not text.startswith("t=") or not (start or end) or (has_end and not end):
        raise ValueError(_NO_TIME)
    found = Fragment(_time(start) if start else 0.0, _time(end) if end else None)
    if found.end is not None and found.end <= found.start:
        raise ValueError("has a fragment that ends before it begins")
    return found


def _time(text: str) -> float:
    if _SECONDS.fullmatch(text):
        return float(text)
    found = _CLOCK.fullmatch(text)
    if found is None or int(found[2]) > 59 or float(found[3]) >= 60:
        raise ValueError(_NO_TIME)
    return round(int(found[1] or 0) * 3600 + int(found[2]) * 60 + float(found[3]), 6)


def _path_of_uri(uri: str, windows: bool) -> PurePath:
    path = uri[len("file:") :]
    if _BAD_ESCAPE.search(path) or "?" in path:
        raise ValueError("is not a well-formed file: URI (% is written %25, ? is %3F and # is %23)")
    if path.startswith("//"):
        host, slash, rest = path[2:].partition("/")
        if host.lower() not in ("", "localhost"):
            raise ValueError(_SHARE)
        path = slash + rest
    decoded = os.fsdecode(unquote_to_bytes(path)) if not windows else unquote(path)
    if _NEVER_IN_A_PATH.search(decoded):
        raise ValueError("contains control characters, or others that no name of a file has")
    if windows and _DRIVE.match(decoded[1:]):
        decoded = decoded[1:]
    return _full_path(decoded, None, windows, expands=False)


def _full_path(
    text: str, home: PurePath | None, windows: bool, *, expands: bool = True
) -> PurePath:
    pure = PureWindowsPath if windows else PurePosixPath
    if windows and ":" in text[2:]:
        raise ValueError("contains a colon, which no name of a file has")
    if expands and text.startswith("~"):
        return _in_home(text, home, windows)
    if text.startswith(("//", "\\\\")) or (windows and text.startswith(("/\\", "\\/"))):
        raise ValueError(_SHARE)
    path = pure(text)
    if not path.is_absolute():
        if not windows and PureWindowsPath(text).is_absolute():
            raise ValueError("is a path of Windows, and this server does not run there")
        start = "a drive, as C:\\" if windows else "/ or ~/"
        raise ValueError(_NOT_FULL.format(start=start))
    return _on_windows(path) if windows else path


def _in_home(text: str, home: PurePath | None, windows: bool) -> PurePath:
    separators = ("/", "\\") if windows else ("/",)
    if text != "~" and text[1] not in separators:
        raise ValueError("must not be in another user's home folder (~ alone is the user's own)")
    pure = PureWindowsPath if windows else PurePosixPath
    try:
        path = pure(home or Path.home()) / text[2:].lstrip("".join(separators))
    except RuntimeError:
        raise ValueError("begins with ~, and this system knows no home folder") from None
    return _on_windows(path) if windows else path


def _on_windows(path: PurePath) -> PurePath:
    """The same path. Raises ValueError if Windows reads it as another path, or as a device."""
    for name in path.parts[1:]:
        if name != ".." and name[-1] in ". ":
            raise ValueError("contains a name that ends with a dot or a space, as no file's does")
        if _DEVICE.fullmatch(name):
            raise ValueError("is a device of Windows, and no file")
    return path


def _quoted(text: str) -> str:
    """A path as a part of a URI: the bytes of its name that a URI cannot hold become %XX."""
    return quote(os.fsencode(text), safe="/:")
