"""`prepare`, with its process: what is sent, what is refused, and what is left behind."""

import hashlib
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.bench.preparing import make_clip
from tests.inputs.preparing.clips import PHONE_TAGS, Clip, seen
from wan_mcp.errors import Code, NotSent
from wan_mcp.inputs import decoder_process
from wan_mcp.inputs.local.references import Fragment
from wan_mcp.inputs.preparing import prepare as preparing
from wan_mcp.inputs.preparing.prepare import Prepared, prepare, remove_leftovers
from wan_mcp.inputs.verdict import IMAGE, VIDEO, Role, UnusableInput
from wan_mcp.storage.delivery import Content

pytest.importorskip("av")
pytestmark = pytest.mark.anyio

ALL = Fragment()


def content_of(path: Path, media_type: str = "video/mp4") -> Content:
    data = path.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    return Content(lambda: path.open("rb"), len(data), sha256, path.suffix, media_type)


async def sent(
    source: Content,
    folder: Path,
    fragment: Fragment = ALL,
    *,
    role: Role = VIDEO,
    seconds: float = 1,
    report: Callable[[float], None] = lambda share: None,
) -> Prepared:
    with anyio.fail_after(600):
        return await prepare(source, role, fragment, seconds, folder, report)


@pytest.fixture
def tagged(tmp_path: Path) -> Content:
    """A clip of 3 s that says where it was recorded."""
    return content_of(Clip(tags=PHONE_TAGS).written(tmp_path / "a.mov"))


def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Let the process be one with this body for its answers."""
    script = tmp_path / "child.py"
    script.write_text(
        "from wan_mcp.inputs.decoder_limits import answer_questions\n"
        f"def answer(question, parts):\n    {body}\n"
        "answer_questions(answer)\n"
    )
    monkeypatch.setattr(decoder_process, "COMMAND", (sys.executable,))
    monkeypatch.setattr(preparing, "MODULE", str(script))


async def test_what_is_sent_is_a_file_of_this_user_with_its_own_hash(
    tagged: Content, tmp_path: Path
) -> None:
    """Cut at a key frame and freed of its location, it is deleted by `discard` (ours)."""
    shares: list[float] = []
    ready = await sent(tagged, tmp_path / "out", Fragment(1), report=shares.append)

    assert ready.notes == (
        "Before it was sent, video was cut to the 1.5 s that begin at 1 s (without encoding it "
        "again) and freed of everything that says where, when and with what it was recorded.",
    )
    assert ready.written is not None
    if sys.platform != "win32":
        assert stat.S_IMODE(ready.written.stat().st_mode) == 0o600
    with ready.content.open() as file:
        data = file.read()
    assert (len(data), ready.content.suffix) == (ready.content.size, ".mp4")
    assert hashlib.sha256(data).hexdigest() == ready.content.sha256
    assert shares[-1] == 1.0
    assert [*(tmp_path / "out").iterdir()] == [ready.written]
    ready.discard()
    assert not [*(tmp_path / "out").iterdir()]
    with pytest.raises(FileNotFoundError):
        ready.content.open()


async def test_a_written_file_that_was_changed_is_not_sent(tagged: Content, tmp_path: Path) -> None:
    """Its hash names the object that is uploaded (ours)."""
    ready = await sent(tagged, tmp_path / "out")
    assert ready.written is not None
    ready.written.write_bytes(b"another")

    with pytest.raises(OSError, match="no longer what was written"):
        ready.content.open()


async def test_a_file_that_needs_no_change_is_sent_itself(tmp_path: Path) -> None:
    """No file is left, and there is nothing to say (ours)."""
    source = content_of(Clip(frames=60).written(tmp_path / "a.mp4"))
    ready = await sent(source, tmp_path / "out", seconds=2)

    assert (ready.content, ready.notes, ready.written) == (source, (), None)
    assert not [*(tmp_path / "out").iterdir()]


async def test_of_a_long_clip_only_the_fragment_is_sent(tmp_path: Path) -> None:
    """The bench does the same with 2 GB (ours)."""
    make_clip(tmp_path / "a.mp4", 42, size="64x36", bits=100_000)
    source = content_of(tmp_path / "a.mp4")
    copied = await sent(source, tmp_path / "out", Fragment(28, 30), seconds=2)
    encoded = await sent(source, tmp_path / "out", Fragment(26, 28), seconds=2)

    assert ["without encoding" in each.notes[0] for each in (copied, encoded)] == [True, False]
    assert max(copied.content.size, encoded.content.size) < source.size / 8
    assert copied.written is not None
    assert encoded.written is not None
    assert len(seen(copied.written).times) == len(seen(encoded.written).times) == 60


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be replaced there")
async def test_the_file_that_was_checked_is_read_whatever_is_under_its_name(
    tmp_path: Path,
) -> None:
    """The process gets the open file, not its path (ours)."""
    checked = Clip(flash=30).written(tmp_path / "a.mp4")
    source = content_of(checked)
    file = checked.open("rb")
    other = Clip(flash=40, size=(64, 64), frames=9).written(tmp_path / "other.mp4")
    os.replace(other, checked)
    kept = Content(
        lambda: os.fdopen(os.dup(file.fileno()), "rb"),
        source.size,
        source.sha256,
        ".mp4",
        "video/mp4",
    )
    ready = await sent(kept, tmp_path / "out", Fragment(0.5))

    assert ready.written is not None
    assert seen(ready.written).size == (192, 108)
    file.close()


async def test_a_file_that_changes_meanwhile_is_not_sent(tagged: Content, tmp_path: Path) -> None:
    """The content says so when it is opened again (ours)."""
    opened: list[Any] = []

    def once() -> Any:
        if opened:
            raise OSError("changed")
        opened.append(tagged.open())
        return opened[0]

    source = Content(once, tagged.size, tagged.sha256, ".mov", "video/quicktime")
    with pytest.raises(NotSent, match="no longer the file that was checked"):
        await sent(source, tmp_path / "out")
    assert not [*(tmp_path / "out").iterdir()]


async def test_a_fragment_beyond_the_end_is_refused(tagged: Content, tmp_path: Path) -> None:
    """Before anything is sent (ours)."""
    with pytest.raises(UnusableInput, match="no picture at 700 s"):
        await sent(tagged, tmp_path / "out", Fragment(700, 705))


@pytest.mark.parametrize(
    ("body", "fragment", "media_type", "why"),
    [
        ("import os; os.abort()", Fragment(1), "video/mp4", "could not be cut"),
        ("return {'extras': 2, 'failed': 'x'}", ALL, "video/mp4", None),
        ("import os; os.abort()", ALL, "image/heic", "could not be converted"),
        (
            "return {'extras': 2, 'changes': ['x']} if 'role' in question else {'failed': 'full'}",
            ALL,
            "video/mp4",
            "where it was recorded",
        ),
    ],
    ids=["cut", "unknown", "convert", "location"],
)
async def test_after_a_failure_only_what_does_no_harm_is_sent_as_it_is(
    tagged: Content,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    body: str,
    fragment: Fragment,
    media_type: str,
    why: str | None,
) -> None:
    """And then the note says plainly what was not removed (ours)."""
    child(tmp_path, monkeypatch, body)
    source = Content(tagged.open, tagged.size, tagged.sha256, ".mov", media_type)
    if why:
        with pytest.raises(NotSent, match=why) as refusal:
            await sent(source, tmp_path / "out", fragment)
        assert not refusal.value.retry_safe
    else:
        ready = await sent(source, tmp_path / "out", fragment)
        assert ready.content is source
        assert "where, when and with what it was recorded was not removed" in ready.notes[0]
    assert not [*(tmp_path / "out").iterdir()]


async def test_a_cancelled_preparation_leaves_no_file(
    tagged: Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor a process (ours)."""
    child(tmp_path, monkeypatch, "return {'extras': 0, 'changes': ['x'], 'share': 0.5}")
    with anyio.CancelScope() as scope:
        await sent(tagged, tmp_path / "out", report=lambda share: scope.cancel())

    assert scope.cancelled_caught
    assert not [*(tmp_path / "out").iterdir()]


async def test_without_media_a_file_goes_as_it_is_and_a_later_start_is_refused(
    tagged: Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the command that installs it (ours)."""
    monkeypatch.setattr(preparing, "available", lambda: False)
    ready = await sent(tagged, tmp_path / "out", Fragment(0, 2))
    with pytest.raises(UnusableInput, match=r"without .media.") as refusal:
        await sent(tagged, tmp_path / "out", Fragment(0.5))

    assert ready.content is tagged
    assert "does not remove" in ready.notes[0]
    assert refusal.value.code is Code.UNUSABLE_INPUT
    assert "pip install 'wan-mcp[media]'" in refusal.value.next_step
    assert not (tmp_path / "out").exists()


async def test_a_folder_that_cannot_be_written_is_said(tagged: Content, tmp_path: Path) -> None:
    """Nothing is sent then (ours)."""
    (tmp_path / "out").write_text("a file")
    with pytest.raises(NotSent, match="no file can be written"):
        await sent(tagged, tmp_path / "out")


async def test_a_picture_is_prepared_in_the_process_too(tmp_path: Path) -> None:
    """Its role decides how (ours)."""
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("pillow_heif")
    image.new("RGB", (2400, 60), "red").save(tmp_path / "a.png")
    ready = await sent(content_of(tmp_path / "a.png", "image/png"), tmp_path / "out", role=IMAGE)

    assert ready.content.media_type == "image/png"
    assert ready.notes == (
        "Before it was sent, character_image was made smaller (2,400 x 60 pixels before).",
    )


def test_old_leftovers_are_deleted_and_nothing_else(tmp_path: Path) -> None:
    """What another process of the same user is writing now is younger (ours)."""
    names = ("a.wan-mcp-prepared", "a.wan-mcp-prepared.cube", "b.wan-mcp-prepared", "c.mp4")
    for name in names:
        (tmp_path / name).touch()
    for name in (*names[:2], names[3]):
        os.utime(tmp_path / name, (0, 0))

    remove_leftovers(tmp_path)
    remove_leftovers(tmp_path / "missing")

    assert {path.name for path in tmp_path.iterdir()} == {"b.wan-mcp-prepared", "c.mp4"}
