"""Asks the system about a path, and about a file that is open, in the way of each system."""

import os
import re
import stat
import sys
from contextlib import suppress
from pathlib import Path

from wan_mcp.storage.mounts import MOUNTS, filesystem_type

# File systems on which a file is on another computer, whose silence would block the reader. Only
# these kinds of FUSE are named, because most others are disks of this computer.
_ON_NETWORK = re.compile(
    r"nfs4?|cifs|smb(fs|[23])?|afpfs|afs|ncpfs|9p|ceph|glusterfs|lustre|beegfs|orangefs|gpfs|coda"
    r"|webdav|davfs2?|ftp"
    r"|fuse\.(sshfs|s3fs|rclone|davfs2?|gvfsd-fuse|glusterfs|ceph(-fuse)?|goofys|gcsfuse"
    r"|curlftpfs|smbnetfs|mount-s3|blobfuse2?|juicefs|kio-fuse)"
)

if sys.platform == "win32":
    import ctypes
    import msvcrt

    _REMOTE_DRIVE = 4
    _LINK_TAGS = {stat.IO_REPARSE_TAG_SYMLINK, stat.IO_REPARSE_TAG_MOUNT_POINT}
    _HIDDEN = stat.FILE_ATTRIBUTE_HIDDEN | stat.FILE_ATTRIBUTE_SYSTEM
    _LONGEST_PATH = 32_768

    def is_link(status: os.stat_result) -> bool:
        """Whether it leads elsewhere: a link, or a junction, which is a link of folders."""
        return status.st_reparse_tag in _LINK_TAGS

    def is_hidden(status: os.stat_result) -> bool:
        """Whether it is marked as hidden, other than by its name."""
        return bool(status.st_file_attributes & _HIDDEN)

    def true_path(file: int) -> Path | None:
        """The full path of an open file, spelled as on the disk; None if it is not known."""
        text = ctypes.create_unicode_buffer(_LONGEST_PATH)
        handle = ctypes.c_void_p(msvcrt.get_osfhandle(file))
        if not ctypes.windll.kernel32.GetFinalPathNameByHandleW(handle, text, _LONGEST_PATH, 0):
            return None
        return Path(text.value.removeprefix("\\\\?\\"))

    def is_on_network(path: Path) -> bool:
        """Whether a path leads to another computer, as far as that is known without opening it."""
        return bool(ctypes.windll.kernel32.GetDriveTypeW(path.anchor) == _REMOTE_DRIVE)

    def is_open_on_network(file: int) -> bool:
        """Whether an open file is on another computer, as far as the system tells."""
        path = true_path(file)
        return path is not None and str(path).startswith(("\\\\", "UNC\\"))

else:

    def is_link(status: os.stat_result) -> bool:
        """Whether it leads elsewhere."""
        return stat.S_ISLNK(status.st_mode)

    def is_hidden(status: os.stat_result) -> bool:
        """Whether it is marked as hidden, other than by its name; Linux has no such mark."""
        return bool(getattr(status, "st_flags", 0) & stat.UF_HIDDEN)

    def true_path(file: int) -> Path | None:
        """The full path of an open file, spelled as on the disk; None if it is not known."""
        with suppress(OSError):
            if sys.platform == "darwin":
                import fcntl

                found = fcntl.fcntl(file, fcntl.F_GETPATH, bytes(1024))
                return Path(os.fsdecode(found.partition(b"\0")[0]))
            path = os.readlink(f"/proc/self/fd/{file}")
            return Path(path) if path.startswith("/") else None
        return None

    def is_on_network(path: Path) -> bool:
        """Whether a path leads to another computer, as far as that is known without opening it."""
        if sys.platform != "linux":
            return False
        with suppress(OSError):
            mounts = MOUNTS.read_text(errors="replace")
            return _ON_NETWORK.fullmatch(filesystem_type(path, mounts)) is not None
        return False

    def is_open_on_network(file: int) -> bool:
        """Whether an open file is on another computer, as far as the system tells."""
        if sys.platform != "darwin":
            return False
        import ctypes

        # fstatfs(2): the name of the file system is at offset 72 (documented).
        found = ctypes.create_string_buffer(4096)
        system = ctypes.CDLL(None)
        if getattr(system, "fstatfs$INODE64", system.fstatfs)(file, found) != 0:
            return False
        name = found.raw[72:88].partition(b"\0")[0].decode("ascii", "replace")
        return _ON_NETWORK.fullmatch(name) is not None
