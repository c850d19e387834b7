"""Where the ledger may lie: a private folder on a disk of this machine.

SQLite's locks and its shared memory have to hold between all processes that open the file. That
is certain only on a file system of this system alone.
"""

import os
import re
import sys
from pathlib import Path, PurePath

from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.storage.mounts import MOUNTS, filesystem_type

# File systems on a system's own disks or memory. All others are refused: network file systems, and
# what a host shares with its container or virtual machine, where the file is shared and the lock is
# not (Docker Desktop's fakeowner: two processes had one exclusive lock, observed elsewhere). Nobody
# can know what is behind FUSE. A list of unsuitable ones would never be complete.
_LOCAL = re.compile(
    r"ext[2-4]|xfs|btrfs|f2fs|zfs|bcachefs|jfs|reiserfs|nilfs2|ubifs|jffs2|apfs|hfs(plus)?"
    r"|ufs|vfat|msdos|exfat|ntfs3?|tmpfs|ramfs|rootfs|overlay|aufs|ecryptfs|lxfs|wslfs"
)
_ADVICE = (
    "Ask the user to set WAN_MCP_DATA_DIR to a folder on this machine's own disk (in a container: "
    "on a volume of its own). If only this machine can see that folder: to set "
    "WAN_MCP_LEDGER_FILESYSTEM={kind} instead, which takes it for a local one."
)


class UnsuitableFolder(LedgerUnavailable):
    """The ledger is in a folder where its locks may not hold: it can only be read."""


def private_file(folder: Path, name: str, trusted: str | None = None) -> Path:
    """A file that only this user can read (0600), in a folder that only this user can (0700).

    Args:
        trusted: a type of file system that the operator declares to be local.

    Raises:
        UnsuitableFolder: the file exists, on a file system that others may share.
        LedgerUnavailable: the file does not exist, and would be created on such a file system.
        OSError: it cannot be created or written.
    """
    _refuse_shared(folder, name, trusted)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / name
    # SQLite would create it with the mode of the umask. The files with the suffixes -wal and
    # -shm get the mode of this one.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    for private in (folder, path):
        _restrict(private)
    return path


def give_to_owner_of(folder: Path, *paths: Path) -> None:
    """Give to the owner of a folder what root has made beside it; SQLite does so with its log.

    Otherwise the server of that user could not read it.
    """
    if sys.platform != "win32" and os.geteuid() == 0:
        owner = folder.stat()
        for path in paths:
            if path.stat().st_uid != owner.st_uid:
                os.chown(path, owner.st_uid, owner.st_gid)


def shared_filesystem(path: PurePath, mounts: str) -> str | None:
    """The type of the file system that an absolute path lies on, if others may share it.

    None if it is local, or if the mounts do not tell.

    Args:
        mounts: the text of MOUNTS.
    """
    kind = filesystem_type(path, mounts)
    return None if not kind or _LOCAL.fullmatch(kind) else kind


def _refuse_shared(folder: Path, name: str, trusted: str | None) -> None:
    real = folder.resolve()
    kind = None
    if sys.platform == "linux" and MOUNTS.exists():
        kind = shared_filesystem(real, MOUNTS.read_text(errors="replace"))
    elif real.drive.startswith("\\\\"):
        kind = "share"
    if kind and kind != trusted:
        error = UnsuitableFolder if (real / name).exists() else LedgerUnavailable
        raise error(
            f"The ledger's folder may be shared with other machines ({kind}), so several servers "
            "could pay for the same job.",
            next_step=_ADVICE.format(kind=kind),
        )


def _restrict(path: Path) -> None:
    """Remove the rights of other users. On Windows, the user's own folders are private already."""
    mode = path.stat().st_mode
    if os.name == "posix" and mode & 0o077:
        path.chmod(mode & 0o700)
