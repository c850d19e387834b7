"""Which folders the ledger accepts: those on a file system of this machine alone."""

from pathlib import PurePosixPath

import pytest

from wan_mcp.ledger.sqlite.folder import shared_filesystem

MOUNTS = r"""
22 1 252:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
23 22 0:21 / /home rw shared:2 - nfs4 nas:/home rw
24 23 252:2 / /home/local rw shared:3 - xfs /dev/vdb rw
25 22 0:30 / /mnt/my\040share rw - cifs //nas/share rw
26 22 0:31 / /mnt/c rw - 9p drvfs rw
27 22 0:32 / /mnt/ssh rw - fuse.sshfs host: rw
28 22 0:33 / /mnt/zip rw - fuse.archivemount zip rw
29 22 0:34 / /twice rw - nfs nas:/x rw
30 29 252:3 / /twice rw - btrfs /dev/vdc rw
31 22 0:35 / /host/virtiofs rw - virtiofs home rw
32 22 0:36 / /host/grpcfuse rw - fuse.grpcfuse grpcfuse rw
33 22 0:37 / /host/osxfs rw - osxfs osxfs rw
34 22 0:38 / /host/fuse.osxfs rw - fuse.osxfs osxfs rw
35 22 0:39 / /host/vboxsf rw - vboxsf home rw
36 22 0:40 / /host/vmhgfs rw - fuse.vmhgfs-fuse vmhgfs-fuse rw
37 22 0:41 / /host/prl_fs rw - prl_fs home rw
""".strip()


@pytest.mark.parametrize(
    ("path", "file_system"),
    [
        ("/var/lib/wan", None),
        ("/home/me/.local", "nfs4"),
        ("/home/local/me", None),
        ("/homestead", None),
        ("/mnt/my share/wan", "cifs"),
        ("/mnt/c/Users/me", "9p"),
        ("/mnt/ssh/wan", "fuse.sshfs"),
        ("/mnt/zip/wan", None),
        ("/twice/wan", None),
        ("/host/virtiofs/wan", "virtiofs"),
        ("/host/grpcfuse/wan", "fuse.grpcfuse"),
        ("/host/osxfs/wan", "osxfs"),
        ("/host/fuse.osxfs/wan", "fuse.osxfs"),
        ("/host/vboxsf/wan", "vboxsf"),
        ("/host/vmhgfs/wan", "fuse.vmhgfs-fuse"),
        ("/host/prl_fs/wan", "prl_fs"),
    ],
)
def test_shared_file_systems_are_recognised(path: str, file_system: str | None) -> None:
    """The innermost mount decides, and of two on one point the later one (proc(5))."""
    assert shared_filesystem(PurePosixPath(path), MOUNTS) == file_system
