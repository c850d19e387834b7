"""One settings file of a host: read with care and replaced as a whole, with a copy of the old one.

A host may read its file at any moment, and a person has put work into it. So a file is never
written in place: a new one is written beside it and takes its name. A file that this program cannot
change safely (a link, somebody else's file, one that is read-only or broken) is left as it is.
"""

import os
import stat
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

BACKUP_SUFFIX = ".before-wan-mcp"
"""The suffix of the copy of a file from before our entry was added."""
_MAX_BYTES = 16 * 1024 * 1024
_BYTE_ORDER_MARK = "\ufeff"
_PRIVATE, _PRIVATE_FOLDER = 0o600, 0o700


class Refused(Exception):
    """A file is left as it is; the message is the end of a sentence that begins with its name."""


@dataclass(frozen=True)
class ConfigFile:
    """A host's settings file, which may not exist yet.

    Args:
        path: where the host reads it.
    """

    path: Path

    @property
    def backup(self) -> Path:
        """Where the copy of the file is."""
        return self.path.with_name(self.path.name + BACKUP_SUFFIX)

    @property
    def is_tightened(self) -> bool:
        """Whether others had rights to it before our entry was added, and have none now."""
        return self._mode() == _PRIVATE != ConfigFile(self.backup)._mode()

    def read(self) -> str | None:
        """The text of the file; None if there is no file.

        Raises:
            Refused: it is not a plain file of this user's, is too large, or is not UTF-8 text.
        """
        try:
            status = self.path.lstat()
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise Refused(f"cannot be read: {exc.strerror}") from None
        _require_plain(status)
        return _text(self.path)

    def replace(self, before: str | None, after: str, *, private: bool, copy: bool) -> None:
        """Replace the content of the file.

        Args:
            before: what `read` returned; None if there was no file.
            after: the text to write.
            private: whether the text contains a secret, so that only its owner may read it.
            copy: whether a copy of the old file is kept beside it, with its former rights. If
                not, an earlier copy is deleted, because it no longer shows what the file would be
                without our entry.

        Raises:
            Refused: it cannot be written, or has changed since it was read.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=_PRIVATE_FOLDER)
            mode = self._mode()
            if copy and before is not None:
                _write(self.backup, before, mode)
            self._require_unchanged(before)
            _write(self.path, after, _PRIVATE if private else mode)
            if not copy:
                self.backup.unlink(missing_ok=True)
        except OSError as exc:
            raise Refused(f"cannot be written: {exc.strerror}") from None

    def restore(self, before: str) -> None:
        """Restore the copy, or delete the file if there was none; `before` is what `read` returned.

        Others get back the rights that they had before, unless somebody has changed them since.

        Raises:
            Refused: as `replace` does.
        """
        try:
            mode = ConfigFile(self.backup)._mode() if self.is_tightened else self._mode()
            self._require_unchanged(before)
            if (copy := self.copy()) is None:
                self.path.unlink()
                return
            _write(self.path, copy, mode)
            self.backup.unlink()
        except OSError as exc:
            raise Refused(f"cannot be written: {exc.strerror}") from None

    def copy(self) -> str | None:
        """The text of the file before our entry was added; None if there was no file.

        Raises:
            Refused: the copy is not a plain file of this user's.
        """
        return ConfigFile(self.backup).read()

    def _mode(self) -> int:
        try:
            return stat.S_IMODE(self.path.stat().st_mode)
        except FileNotFoundError:
            return _PRIVATE

    def _require_unchanged(self, before: str | None) -> None:
        if self.read() != before:
            raise Refused("was changed by another program just now; run this again")


def _require_plain(status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise Refused("is a link to another file")
    if not stat.S_ISREG(status.st_mode):
        raise Refused("is not a file")
    if status.st_size > _MAX_BYTES:
        raise Refused("is too large for a file of settings")
    if sys.platform != "win32" and status.st_uid != os.geteuid():
        raise Refused("belongs to another user")
    if not status.st_mode & stat.S_IWUSR:
        raise Refused("is read-only")


def _text(path: Path) -> str:
    try:
        # newline="": line ends are kept as they are.
        with path.open(encoding="utf-8", newline="") as file:
            return file.read()
    except UnicodeDecodeError:
        raise Refused("is not UTF-8 text") from None
    except OSError as exc:
        raise Refused(f"cannot be read: {exc.strerror}") from None


def _write(path: Path, text: str, mode: int) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name)
        raise


def without_mark(text: str) -> tuple[str, str]:
    """The byte order mark at the beginning of a text, or "", and the rest."""
    if text.startswith(_BYTE_ORDER_MARK):
        return _BYTE_ORDER_MARK, text[1:]
    return "", text
