"""Where the ledger may lie: a private folder on a disk of this machine."""

import os
import re
import sys
from pathlib import Path, PurePath, PurePosixPath

from wan_mcp.ledger.contract import LedgerUnavailable

_MOUNTS = Path("/proc/self/mountinfo")
# The second half is shared between a host and its container or virtual machine: there the file is
# shared and the lock is not, so that a server on either side would pay for the same job.
_SHARED = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|ncpfs|9p|afs|ceph|lustre|gfs2|ocfs2|beegfs|gpfs|davfs"
    r"|fuse\.(sshfs|rclone|s3fs|gcsfuse|glusterfs|ceph.*|davfs2?|curlftpfs|smbnetfs)"
    r"|virtiofs|vboxsf|prl_fs|osxfs|fuse\.(grpcfuse|osxfs|vmhgfs-fuse)"
)
_ADVICE = (
    "Ask the user to set WAN_MCP_DATA_DIR to a folder on this machine's own disk (in a container: "
    "on a volume of its own)."
)


def private_file(folder: Path, name: str) -> Path:
    """A file that only this user can read (0600), in a folder that only this user can (0700).

    Raises:
        LedgerUnavailable: the folder lies on a file system that other machines share.
        OSError: it cannot be made or written.
    """
    _refuse_shared(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / name
    # Made before SQLite would, which asks the umask; its -wal and -shm take the file's mode.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    for kept in (folder, path):
        _narrow(kept)
    return path


def shared_filesystem(path: PurePath, mounts: str) -> str | None:
    """The type of the shared file system that an absolute path lies on; None when it is local.

    Args:
        mounts: the text of Linux's /proc/self/mountinfo.
    """
    best, kind = -1, ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        point = PurePosixPath(_unescaped(before.split()[4]))
        # Not >: of two mounts on one point, the later hides the earlier.
        if path.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), after.split()[0]
    return kind if _SHARED.fullmatch(kind) else None


def _refuse_shared(folder: Path) -> None:
    """SQLite's locks and shared memory do not work between machines: two would pay for one job."""
    real = folder.resolve()
    kind = None
    if sys.platform == "linux" and _MOUNTS.exists():
        kind = shared_filesystem(real, _MOUNTS.read_text(errors="replace"))
    elif real.drive.startswith("\\\\"):
        kind = "Windows share"
    if kind:
        raise LedgerUnavailable(
            f"The ledger's folder is shared with other machines ({kind}), so several servers could "
            "pay for the same job.",
            next_step=_ADVICE,
        )


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field)


def _narrow(path: Path) -> None:
    """Take the rights of others away. On Windows the user's folder is private by its own rules."""
    mode = path.stat().st_mode
    if os.name == "posix" and mode & 0o077:
        path.chmod(mode & 0o700)
