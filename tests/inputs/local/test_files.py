"""Which files of this computer may be inputs, and that nothing else is opened or even looked at."""

import builtins
import hashlib
import io
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest

from wan_mcp.errors import InvalidArguments, NotSent, Refused
from wan_mcp.inputs.local import folders, hashes, opening, system
from wan_mcp.inputs.local.files import LocalFiles
from wan_mcp.inputs.local.folders import InputFolders, input_folders
from wan_mcp.inputs.local.hashes import Hashes, StillReading
from wan_mcp.inputs.local.opening import Changed, OpenFile
from wan_mcp.inputs.local.references import FileReference, reference
from wan_mcp.inputs.verdict import IMAGE, VIDEO, Role, UnusableInput

pytestmark = pytest.mark.anyio
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")

MP4 = b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(64)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)
KEY = b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmU=\n"
HASH = hashlib.sha256(MP4).hexdigest()


class Home:
    """A home folder with one allowed folder in it, and files in other places.

    Attributes:
        inside: the allowed folder.
        outside: a folder beside it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.inside = self.path / "Videos"
        self.outside = self.path / "Private"
        for folder in (self.inside, self.outside, self.inside / ".hidden", self.path / "Videos2"):
            folder.mkdir(parents=True)
            (folder / "a.mp4").write_bytes(MP4)

    def place(self, name: str, content: bytes = MP4) -> Path:
        """A file in the allowed folder."""
        path = self.inside / name
        path.write_bytes(content)
        return path

    def link(self, name: str, target: Path | str) -> Path:
        """A link in the allowed folder."""
        path = self.inside / name
        path.symlink_to(target)
        return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    home = Home(tmp_path / "home")
    monkeypatch.setenv("HOME", str(home.path))
    monkeypatch.setenv("USERPROFILE", str(home.path))
    return home


@pytest.fixture
async def files(home: Home) -> AsyncIterator[LocalFiles]:
    async with anyio.create_task_group() as tasks:
        yield LocalFiles(InputFolders((home.inside,)), 1000, tasks)


async def refusal(files: LocalFiles, text: str, role: Role = VIDEO) -> Refused:
    found = reference(text)
    assert isinstance(found, FileReference)
    with pytest.raises(Refused) as refused:
        await files.locate(found.uri, role)
    return refused.value


Record = tuple[str, str]
"""A call of the system, and the path that it was given."""

_CALLS = ("open", "stat", "lstat", "readlink", "scandir", "listdir", "access")


@contextmanager
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Record]]:
    """Every path that is opened, read as a link or asked about, in whatever way Python offers.

    Paths relative to an open folder are those that this folder has.
    """
    seen: list[Record] = []

    def watched(module: ModuleType, name: str) -> Callable[..., Any]:
        call = getattr(module, name)

        def wrapper(path: Any, *args: Any, **named: Any) -> Any:
            if not isinstance(path, int):
                text = os.fsdecode(path)
                if (folder := named.get("dir_fd")) is not None:
                    text = os.path.join(real_readlink(f"/proc/self/fd/{folder}"), text)
                seen.append((name, text))
            return call(path, *args, **named)

        return wrapper

    real_readlink = os.readlink
    with monkeypatch.context() as patch:
        for name in _CALLS:
            patch.setattr(os, name, watched(os, name))
        for module in (io, builtins):
            patch.setattr(module, "open", watched(module, "open"))
        yield seen


WRONG_PLACES = {
    "outside": "{home}/Private/a.mp4",
    "outside-and-missing": "{home}/Private/missing.mp4",
    "in-the-home-folder": "~/a.mp4",
    "upwards": "{home}/Videos/../Private/a.mp4",
    "upwards-in-a-uri": "file://{home}/Videos/%2e%2e/Private/a.mp4",
    "upwards-with-an-escaped-slash": "file://{home}/Videos/..%2FPrivate%2Fa.mp4",
    "folder-of-a-longer-name": "{home}/Videos2/a.mp4",
    "folder-in-other-letters": "{home}/vIDEOS/a.mp4",
    "link-to-a-file-outside": "{home}/Videos/link.mp4",
    "link-to-a-folder-outside": "{home}/Videos/folder/a.mp4",
    "link-to-nothing-outside": "{home}/Videos/dangling.mp4",
    "link-by-way-of-the-outside": "{home}/Videos/there-and-back.mp4",
    "link-to-a-hidden-file": "{home}/Videos/to-hidden.mp4",
    "hidden-file": "{home}/Videos/.a.mp4",
    "hidden-folder": "{home}/Videos/.hidden/a.mp4",
    "hidden-behind-an-invisible-letter": "{home}/Videos/\u200c.hidden/a.mp4",
    "hidden-behind-a-turn-of-direction": "{home}/Videos/\u206f\u202e.hidden/a.mp4",
    "own-memory": "/proc/self/mem",
    "own-environment": "/proc/self/environ",
    "open-file-of-this-process": "/proc/self/fd/0",
    "device": "/dev/zero",
    "passwords": "/etc/passwd",
    "root": "/",
}


def prepare_links(home: Home) -> None:
    home.link("link.mp4", "../Private/a.mp4")
    home.link("folder", home.outside)
    home.link("dangling.mp4", home.outside / "missing.mp4")
    home.link("to-hidden.mp4", ".hidden/a.mp4")
    (home.outside / "back.mp4").symlink_to(home.inside / "a.mp4")
    home.link("there-and-back.mp4", home.outside / "back.mp4")


@posix_only
@pytest.mark.parametrize("case", WRONG_PLACES)
async def test_in_a_wrong_place_nothing_is_opened_or_looked_at(
    case: str, home: Home, files: LocalFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is the same whatever is there, and says what is allowed (ours)."""
    prepare_links(home)
    with recorded(monkeypatch) as seen:
        error = await refusal(files, WRONG_PLACES[case].format(home=home.path))

    assert isinstance(error, InvalidArguments)
    assert error.what == (
        "video is outside the folders whose files this server may send, or is hidden. Nothing "
        f"there was looked at. Allowed are: ~{os.sep}Videos."
    )
    assert "WAN_MCP_INPUT_DIRS" in error.next_step
    allowed = {home.inside, *home.inside.parents}
    beyond = [
        (call, path)
        for call, path in seen
        if Path(path) not in allowed
        and not (Path(path).is_relative_to(home.inside) and ".hidden" not in path)
        and path != "/proc/self/mountinfo"
    ]
    assert beyond == []
    assert not [path for call, path in seen if call == "open" and path.endswith(".mp4")]


@posix_only
async def test_the_record_of_a_good_file_shows_that_it_was_opened(
    home: Home, files: LocalFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise an empty record would prove nothing (ours)."""
    with recorded(monkeypatch) as seen:
        found = await files.locate((home.inside / "a.mp4").as_uri(), VIDEO)

    assert found.path == home.inside / "a.mp4"
    assert ("open", str(found.path)) in seen


BAD_FILES: dict[str, tuple[Callable[[Home], object], str]] = {
    "missing": (lambda home: None, "does not exist"),
    "folder": (lambda home: (home.inside / "bad.mp4").mkdir(), "is a folder"),
    "empty": (lambda home: home.place("bad.mp4", b""), "is an empty file"),
    "text": (lambda home: home.place("bad.mp4", b"hello, world\n" * 9), "is a text file, not"),
    "key": (lambda home: home.place("bad.mp4", KEY).chmod(0o600), "is a text file, not a video"),
    "unknown": (lambda home: home.place("bad.mp4", b"\x01\x02" * 99), "is not a video by its"),
    "picture": (lambda home: home.place("bad.mp4", PNG), "is a PNG picture, not a video"),
    "large": (lambda home: home.place("bad.mp4", MP4 * 12), "more than WAN_MCP_MAX_INPUT_MB"),
    "pipe": (lambda home: os.mkfifo(home.inside / "bad.mp4"), "is no regular file"),
    "circle": (lambda home: home.link("bad.mp4", "bad.mp4"), "circle of links"),
    "below-a-file": (lambda home: home.link("bad.mp4", "a.mp4/b.mp4"), "does not exist"),
    "longest-name": (lambda home: home.link("bad.mp4", "b" * 300), "cannot be read"),
}


@posix_only
@pytest.mark.parametrize("case", BAD_FILES)
async def test_what_is_no_video_in_an_allowed_folder_is_refused_with_the_reason(
    case: str, home: Home, files: LocalFiles
) -> None:
    """By its bytes, whatever its name says (ours); a pipe must not stop the server."""
    make, words = BAD_FILES[case]
    make(home)

    error = await refusal(files, f"{home.inside}/bad.mp4")

    assert isinstance(error, UnusableInput)
    assert words in error.what
    assert error.next_step.startswith("video: ")
    assert (error.charged, error.retry_safe) == ("no", False)


@posix_only
async def test_a_socket_and_a_device_are_not_even_opened(
    home: Home, files: LocalFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some devices notice that they are opened (documented)."""
    monkeypatch.chdir(home.inside)
    with socket.socket(socket.AF_UNIX) as listener, recorded(monkeypatch) as seen:
        listener.bind("s.mp4")
        error = await refusal(files, f"{home.inside}/s.mp4")

    assert "is no regular file" in error.what
    assert not [path for call, path in seen if call == "open" and path.endswith("s.mp4")]


@posix_only
async def test_a_file_that_this_user_may_not_read_is_refused_with_what_to_do(
    home: Home, files: LocalFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As macOS does it for folders of the user, too (documented)."""

    def denied(*args: object, **named: object) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(opening, "_open_checked", denied)
    error = await refusal(files, f"{home.inside}/a.mp4")

    assert "may not be read by the program that runs this server" in error.what


async def test_a_file_of_a_network_file_system_is_refused_before_it_is_opened(
    home: Home, files: LocalFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that does not answer would stop the reader (ours)."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        f"1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:9 / {home.inside} rw - nfs4 s:/ rw\n"
    )
    monkeypatch.setattr(system, "MOUNTS", mounts)
    with recorded(monkeypatch) as seen:
        error = await refusal(files, f"{home.inside}/a.mp4")

    assert "is on another computer" in error.what
    assert not [path for call, path in seen if path.endswith("a.mp4")]


@pytest.mark.parametrize(
    ("kind", "is_remote"),
    [
        *((kind, True) for kind in ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs")),
        *((kind, False) for kind in ("ext4", "btrfs", "fuseblk", "overlay", "fuse.gocryptfs")),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux's mounts")
def test_file_systems_of_other_computers_are_known(
    kind: str, is_remote: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FUSE alone means nothing: disks of Windows and encrypted folders use it, too (documented)."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"1 0 8:1 / / rw - {kind} x rw\n")
    monkeypatch.setattr(system, "MOUNTS", mounts)

    assert system.is_on_network(Path("/a")) is is_remote


@posix_only
@pytest.mark.parametrize("way", ["/sub/clip.mp4", "/to-file.mp4", "/to-folder/clip.mp4", "/up.mp4"])
async def test_a_link_within_the_allowed_folders_is_followed(
    way: str, home: Home, files: LocalFiles
) -> None:
    """People order their videos with links (ours); what counts is where they lead."""
    (home.inside / "sub").mkdir()
    home.place("sub/clip.mp4")
    home.link("to-file.mp4", "sub/clip.mp4")
    home.link("to-folder", home.inside / "sub")
    (home.inside / "sub" / "up.mp4").symlink_to("../to-folder/clip.mp4")
    home.link("up.mp4", "sub/up.mp4")

    found = await files.locate(f"file://{home.inside}{way}", VIDEO)

    assert found.path == home.inside / "sub" / "clip.mp4"


@posix_only
async def test_an_allowed_folder_may_itself_be_a_link(home: Home, tmp_path: Path) -> None:
    """Some users move their folders to another disk (observed elsewhere)."""
    disk, moved = tmp_path / "disk", home.path / "Movies"
    home.inside.rename(disk)
    moved.symlink_to(disk)
    async with anyio.create_task_group() as tasks:
        files = LocalFiles(InputFolders((moved,)), 1000, tasks)
        by_link = await files.locate((moved / "a.mp4").as_uri(), VIDEO)
        by_disk = await files.locate((disk / "a.mp4").as_uri(), VIDEO)

    assert by_link.path == by_disk.path == disk.resolve() / "a.mp4"


# Races


def swap_at_the_last_moment(
    monkeypatch: pytest.MonkeyPatch, name: str, swap: Callable[[], None]
) -> None:
    """Do something after a name was looked at, and just before it is opened."""
    open_, done = os.open, list[str]()

    def late(path: Any, flags: int, *args: Any, **named: Any) -> int:
        if path == name and not done:
            done.append(path)
            swap()
        return open_(path, flags, *args, **named)

    monkeypatch.setattr(os, "open", late)


@posix_only
@pytest.mark.parametrize("swapped", ["file", "folder", "allowed-folder"])
async def test_a_link_that_is_put_in_place_during_the_opening_leads_nowhere(
    swapped: str, home: Home, files: LocalFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between check and use nobody can change what is used (ours)."""
    (home.inside / "sub").mkdir()
    (home.outside / "sub").mkdir()
    home.place("sub/clip.mp4")
    (home.outside / "sub" / "clip.mp4").write_bytes(MP4 + b"secret")
    path = {
        "file": home.inside / "sub" / "clip.mp4",
        "folder": home.inside / "sub",
        "allowed-folder": home.inside,
    }[swapped]
    target = home.outside / path.relative_to(home.inside)

    def swap() -> None:
        path.rename(home.path / "moved")
        path.symlink_to(target)

    swap_at_the_last_moment(monkeypatch, path.name, swap)
    with pytest.raises(UnusableInput):
        await files.locate((home.inside / "sub" / "clip.mp4").as_uri(), VIDEO)

    assert path.is_symlink()


@posix_only
async def test_a_pipe_that_is_put_in_place_during_the_opening_does_not_block(
    home: Home, files: LocalFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is opened without waiting for a writer, and then refused (ours)."""

    def swap() -> None:
        (home.inside / "a.mp4").unlink()
        os.mkfifo(home.inside / "a.mp4")

    swap_at_the_last_moment(monkeypatch, "a.mp4", swap)

    assert "is no regular file" in (await refusal(files, f"{home.inside}/a.mp4")).what


@pytest.mark.parametrize("true", ["Private/a.mp4", "Videos/.hidden/a.mp4"])
async def test_the_true_path_of_the_open_file_counts_where_a_disk_has_several_names_for_one(
    true: str, home: Home, files: LocalFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Disks of Windows and macOS take other letters, short and invisible ones (documented)."""
    monkeypatch.setattr(opening, "true_path", lambda file: home.path / true)

    assert isinstance(await refusal(files, f"{home.inside}/a.mp4"), InvalidArguments)


# Roles, folders


async def test_a_picture_is_found_for_the_picture_and_has_no_fragment_of_time(
    home: Home, files: LocalFiles
) -> None:
    """A part of a picture in time cannot be meant (ours)."""
    uri = home.place("ana.jpeg", PNG).as_uri()
    found = await files.locate(uri, IMAGE)

    assert (found.media_type, found.suffix, found.size) == ("image/png", ".png", len(PNG))
    assert "swapped, this file belongs in character_image" in (await refusal(files, uri)).next_step
    assert "fragment of time" in (await refusal(files, f"{uri}#t=1", IMAGE)).what


@pytest.mark.parametrize("takes_roots", [True, False])
async def test_folders_of_the_client_count_only_if_the_operator_says_so(
    takes_roots: bool, home: Home
) -> None:
    """A client may be told by a stranger's project what its folders are (ours)."""
    uri = (home.outside / "a.mp4").as_uri()
    async with anyio.create_task_group() as tasks:
        files = LocalFiles(InputFolders((home.inside,), takes_roots), 1000, tasks)
        if takes_roots:
            found = await files.locate(uri, VIDEO, roots=[home.outside])
            assert await files.locate(uri, VIDEO) == found
        else:
            with pytest.raises(InvalidArguments):
                await files.locate(uri, VIDEO, roots=[home.outside])


def test_usual_folders_are_those_of_the_system_and_never_the_home_folder(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux names the home folder for what a user does not want (documented)."""
    named = {
        "desktop": home.path,
        "downloads": home.path / "T\u00e9l\u00e9chargements",
        "videos": home.path / "Vid\u00e9os",
        "pictures": home.path.parent,
    }
    for name, folder in named.items():
        monkeypatch.setattr(
            f"wan_mcp.inputs.local.folders.platformdirs.user_{name}_path",
            lambda folder=folder: folder,
        )
    own = home.path / ".data" / "films"

    usual = input_folders(None, own)

    assert usual.folders == (named["downloads"], named["videos"], own)
    assert not usual.takes_roots
    assert input_folders(("roots",), own) == InputFolders(usual.folders, takes_roots=True)
    assert input_folders(("/srv/in",), own) == InputFolders((Path("/srv/in"), own))
    assert str(InputFolders((), takes_roots=False)) == "no folder at all"


def test_a_user_without_a_home_folder_has_no_usual_folders(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some containers run programs as a user whom nobody knows (observed elsewhere)."""

    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)

    assert input_folders(None, None).folders == ()
    assert str(InputFolders((home.inside,))) == str(home.inside)
    with pytest.raises(ValueError, match="knows no home folder"):
        reference("~/a.mp4")


@pytest.mark.parametrize("given", ["Videos", ""], ids=["another-folder", "home-folder"])
async def test_videos_that_this_project_saved_are_inputs_although_its_folder_is_hidden(
    given: str, home: Home
) -> None:
    """The result of one job is the input of the next, also below an allowed folder (ours)."""
    own = home.path / ".local" / "films"
    own.mkdir(parents=True)
    (own / "a.mp4").write_bytes(MP4)
    (own.parent / "a.mp4").write_bytes(MP4)
    async with anyio.create_task_group() as tasks:
        files = LocalFiles(input_folders((str(home.path / given),), own), 1000, tasks)
        found = await files.locate((own / "a.mp4").as_uri(), VIDEO)
        with pytest.raises(InvalidArguments):
            await files.locate((own.parent / "a.mp4").as_uri(), VIDEO)

    assert found.path == own / "a.mp4"


# Reading


def after(path: Path, nanoseconds: int) -> Callable[[], int]:
    """A clock that stands so long after the last change of a file."""
    return lambda: max(path.stat().st_mtime_ns, path.stat().st_ctime_ns) + nanoseconds


class Reads:
    """Counts how often a file is read, and can hold the reading up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.may_go_on = anyio.Event()
        self._update = hashes._update
        monkeypatch.setattr(hashes, "_update", self._counted)
        self.hold = False

    def _counted(self, digest: Any, file: OpenFile) -> int:
        if self.hold:
            anyio.from_thread.run(self.may_go_on.wait)
        read = self._update(digest, file)
        self.count += bool(read)
        return read


async def test_a_settled_file_is_read_once_and_one_of_just_now_each_time(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where times are 2 s apart, a later change might not show (documented)."""
    reads, path = Reads(monkeypatch), home.inside / "a.mp4"
    async with anyio.create_task_group() as tasks:
        allowed = InputFolders((home.inside,))
        files = LocalFiles(allowed, 1000, tasks, after(path, hashes.SETTLED_NS - 1))
        young = [await files.locate(path.as_uri(), VIDEO) for _ in range(2)]
        assert reads.count == 2
        files = LocalFiles(allowed, 1000, tasks, after(path, hashes.SETTLED_NS))
        old = [await files.locate(path.as_uri(), VIDEO) for _ in range(3)]
        assert reads.count == 3

    assert len({*young, *old}) == 1
    assert old[0].sha256 == HASH


async def test_a_slow_file_is_read_on_while_the_caller_is_asked_to_call_again(
    home: Home, files: LocalFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No call waits blindly, and the work that was done is not lost (ours)."""
    reads, uri = Reads(monkeypatch), (home.inside / "a.mp4").as_uri()
    reads.hold = True
    with pytest.raises(NotSent, match=r"is still being read.*nothing is charged") as refused:
        await files.locate(uri, VIDEO, seconds=0)
    assert (refused.value.retry_safe, refused.value.wait_seconds) == (True, 5)
    reads.may_go_on.set()

    found = await files.locate(uri, VIDEO, seconds=600)

    assert found.sha256 == HASH
    assert reads.count == 1


@pytest.mark.parametrize("when", ["opened", "read"])
async def test_a_file_that_another_program_writes_is_refused_for_now(
    when: str, home: Home, files: LocalFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A download or a recording that goes on is no clip yet (ours)."""
    path, update, opened = home.inside / "a.mp4", hashes._update, opening.opened

    def write() -> None:
        with path.open("ab") as writer:
            writer.write(b"more")

    def meanwhile(digest: Any, file: OpenFile) -> int:
        write()
        return update(digest, file)

    def opened_and_written(path: Path, allowed: folders.AllowedFolders) -> OpenFile:
        file = opened(path, allowed)
        write()
        return file

    if when == "read":
        monkeypatch.setattr(hashes, "_update", meanwhile)
    else:
        monkeypatch.setattr("wan_mcp.inputs.local.files.opened", opened_and_written)
    with pytest.raises(NotSent, match="another program may still be writing it"):
        await files.locate(path.as_uri(), VIDEO)


async def test_only_a_few_files_are_open_to_be_read(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that names many files must not use up the files of the system (ours)."""
    reads = Reads(monkeypatch)
    reads.hold = True
    async with anyio.create_task_group() as tasks:
        read = Hashes(tasks, time.time_ns)
        for number in range(hashes.MAX_UNFINISHED + 3):
            path = home.place(f"{number}.mp4")
            file = OpenFile(os.open(path, os.O_RDONLY), path)
            with pytest.raises(StillReading):
                await read.of(file, 0)
            assert file.closed is (number >= hashes.MAX_UNFINISHED)
        reads.may_go_on.set()


# Content


CHANGES: dict[str, Callable[[Path], object]] = {
    "replaced": lambda path: path.write_bytes(MP4),
    "made-a-link": lambda path: path.symlink_to("old"),
    "made-a-folder": lambda path: path.mkdir(),
    "made-a-pipe": lambda path: os.mkfifo(path),
    "removed": lambda path: None,
}


@posix_only
@pytest.mark.parametrize("change", CHANGES)
async def test_a_file_that_was_changed_is_not_opened_again(
    change: str, home: Home, files: LocalFiles
) -> None:
    """What is sent is what the request was made for (ours)."""
    path = home.inside / "a.mp4"
    content = files.content(await files.locate(path.as_uri(), VIDEO))
    with content.open() as opened:
        assert opened.read() == MP4
    path.rename(path.with_name("old"))
    CHANGES[change](path)

    with pytest.raises(OSError):  # noqa: PT011
        content.open()


@posix_only
@pytest.mark.parametrize(
    "read",
    [
        lambda file: file.read(),
        lambda file: file.read(1_000_000),
        lambda file: file.readinto(bytearray(1_000_000)),
        lambda file: file.raw.read(10),
    ],
    ids=["all", "block", "into", "unbuffered"],
)
async def test_a_file_that_is_changed_while_it_is_sent_stops_the_reading(
    read: Callable[[Any], object], home: Home, files: LocalFiles
) -> None:
    """A part of one version and a part of another must not become one video (ours)."""
    path = home.inside / "a.mp4"
    content = files.content(await files.locate(path.as_uri(), VIDEO))
    with content.open() as opened:
        assert opened.seek(0, os.SEEK_END) == content.size
        opened.seek(0)
        assert opened.read(4) == MP4[:4]
        with path.open("ab") as writer:
            writer.write(b"x")
        with pytest.raises(Changed):
            read(opened)


def open_files() -> int:
    """How many files this process has open; 0 where the system does not say."""
    return len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0


@posix_only
async def test_no_file_stays_open(home: Home, files: LocalFiles) -> None:
    """A server runs for weeks (ours)."""
    prepare_links(home)
    before = open_files()
    for _ in range(3):
        for case in WRONG_PLACES.values():
            await refusal(files, case.format(home=home.path))
        await files.locate((home.inside / "a.mp4").as_uri(), VIDEO)

    assert open_files() == before
    assert folders.real_folder(home.inside / "a.mp4") is None
