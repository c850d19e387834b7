"""Where the ledger may be stored: in a private folder on a disk of this machine."""

import os
import re
import sys
from pathlib import Path, PurePath, PurePosixPath

from wan_mcp.ledger.contract import LedgerUnavailable

_MOUNTS = Path("/proc/self/mountinfo")
# File systems in the last line are shared between a host and its container or virtual machine. The
# file is shared there but its locks are not, so a server on each side would pay for the same job.
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
    """A file that only this user can use (0600), in a folder that only this user can use (0700).

    Both are created if they are missing. The rights of other users to them are removed.

    Raises:
        LedgerUnavailable: the folder is on a file system that other machines share.
        OSError: the folder or the file cannot be created or written.
    """
    _refuse_shared(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / name
    # SQLite would create it with the mode that the umask says. The files with the suffixes -wal and
    # -shm get the mode of this one.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    for private in (folder, path):
        _restrict(private)
    return path


def shared_filesystem(path: PurePath, mounts: str) -> str | None:
    """The type of the shared file system that contains an absolute path; None if it is local.

    Args:
        mounts: the text of /proc/self/mountinfo on Linux, see proc(5).
    """
    depth, file_system = -1, ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        point = PurePosixPath(_unescaped(before.split()[4]))
        # Not >: if two file systems are mounted on one point, the later one hides the earlier one.
        if path.is_relative_to(point) and len(point.parts) >= depth:
            depth, file_system = len(point.parts), after.split()[0]
    return file_system if _SHARED.fullmatch(file_system) else None


def _refuse_shared(folder: Path) -> None:
    """SQLite's locks do not work between machines: two servers could pay for the same job."""
    real = folder.resolve()
    file_system = None
    if sys.platform == "linux" and _MOUNTS.exists():
        file_system = shared_filesystem(real, _MOUNTS.read_text(errors="replace"))
    elif real.drive.startswith("\\\\"):
        file_system = "Windows share"
    if file_system:
        raise LedgerUnavailable(
            f"The ledger's folder is shared with other machines ({file_system}), so several "
            "servers could pay for the same job.",
            next_step=_ADVICE,
        )


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field)


def _restrict(path: Path) -> None:
    """Remove the rights of other users. On Windows, the user's own folders are private already."""
    mode = path.stat().st_mode
    if os.name == "posix" and mode & 0o077:
        path.chmod(mode & 0o700)
