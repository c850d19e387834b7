"""`wan-mcp jobs`, `show`, `open`, `keep` and `forget`, as a person at a terminal sees them."""

import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import anyio.to_thread
import pytest
from mcp.client import Client

from tests.ledger.stores import ME, START, SQLiteStore, claimed, record_in, reported, sent
from wan_mcp.cli.commands import run
from wan_mcp.cli.jobs import openers
from wan_mcp.cli.jobs.commands import FAILED, JobCommands, Screen, Since
from wan_mcp.cli.jobs.own_ledger import OwnLedger
from wan_mcp.cli.jobs.plain import exact, file_name, fitted, one_line, width
from wan_mcp.cli.jobs.table import SHORTEST_ID, lines_of_totals, shortened
from wan_mcp.ledger.contract import Ledger
from wan_mcp.ledger.history.totals import Price, totals
from wan_mcp.ledger.record import Record, State
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.ledger.sqlite.connection import connect
from wan_mcp.ledger.sqlite.places import Chosen
from wan_mcp.models import JobStatus, Replacement
from wan_mcp.sandbox import Sandbox, Terms
from wan_mcp.server import build_server
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio

WANTED = Replacement(
    video="https://media.example/clips/clip.mp4", character_image="https://media.example/face.png"
)
HOSTILE = "\x1b[2J\x1b]0;title\x07\x9b31m\u202eevil\r\n\x08\u2800.mp4"
"""Clears the screen, sets the title, colours, turns the direction, goes back."""
LINK = "https://temp.example/video.mp4?signature=s"


@dataclass
class Person:
    """Somebody at a terminal: what they see, and what they answer."""

    data: Path
    store: SQLiteStore
    agrees: bool = True
    opens: bool = True
    seen: str = ""
    errors: str = ""
    questions: list[str] = field(default_factory=list)
    opened: list[Path | str] = field(default_factory=list)
    columns: int | None = None
    zone: Any = UTC

    def jobs(
        self, *statuses: JobStatus, since: Since | None = None, limit: int = 20
    ) -> tuple[int, str]:
        code = self._commands().jobs(statuses, since, limit, as_json=False)
        return code, self._read()

    def as_data(self, *statuses: JobStatus, since: Since | None = None) -> dict[str, Any]:
        assert self._commands().jobs(statuses, since, 20, as_json=True) == 0
        return dict(json.loads(self._read()))

    def show(self, id: str, *, as_json: bool = False) -> tuple[int, str]:
        code = self._commands().show(id, as_json=as_json)
        return code, self._read()

    def open(self, id: str, *, folder: bool = False) -> tuple[int, str]:
        code = self._commands().open(id, folder=folder)
        return code, self._read()

    def keep(self, id: str, *, kept: bool = True) -> tuple[int, str]:
        code = self._commands().keep(id, kept=kept)
        return code, self._read()

    def forget(self, id: str, *, agreed: bool = False) -> tuple[int, str]:
        code = self._commands().forget(id, agreed=agreed)
        return code, self._read()

    def _commands(self) -> JobCommands:
        ledger = OwnLedger(Chosen(self.data), self.store)
        screen = Screen(
            self._write, self._complain, self._answer, self._open, self.columns, self.zone
        )
        return JobCommands(ledger, screen)

    def _read(self) -> str:
        seen, self.seen = self.seen, ""
        return seen

    def _write(self, text: str) -> None:
        self.seen += text

    def _complain(self, text: str) -> None:
        self.errors += text

    def _answer(self, question: str) -> bool:
        self.questions.append(question)
        return self.agrees

    def _open(self, path: Path | str) -> bool:
        self.opened.append(path)
        return self.opens


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(tmp_path / "data/ledger")
    yield store
    for ledger in store.opened:
        await ledger.aclose()


@pytest.fixture
def person(tmp_path: Path, store: SQLiteStore) -> Person:
    return Person(tmp_path / "data", store)


@pytest.fixture
def ledger(store: SQLiteStore) -> Ledger:
    """A server that runs meanwhile."""
    return store.ledger()


def video_in(folder: Path, stem: str) -> Path:
    """A file that a server has saved, and the note beside it."""
    folder.mkdir(exist_ok=True)
    (folder / f".{stem}.json").write_text("{}")
    video = folder / f"{stem}.mp4"
    video.write_bytes(b"a video")
    return video


def wanted(number: int, **changes: object) -> Replacement:
    return WANTED.model_copy(update={"seed": number, **changes})


async def completed(
    ledger: Ledger, folder: Path | None = None, number: int = 1, **changes: object
) -> Record:
    """A completed job of 7 credits; with a folder, its video is saved there."""
    record = await sent(ledger, await claimed(ledger, wanted(number, **changes)))
    job_id = f"job_{number:03}"
    record = await ledger.accept(record, reported(job_id=job_id, credit_cost=7.0))
    done = reported(JobStatus.COMPLETED, job_id=job_id, video_url=LINK)
    record = (await ledger.record_update(ME, done)).record
    if folder is not None:
        video = video_in(folder, f"2026-11-23_{job_id}")
        await ledger.coordination.saved(record.submission_id, str(video), "ab" * 32, 7)
    found = await ledger.find(ME, job_id)
    assert found
    return found


async def test_without_a_ledger_there_are_no_jobs_and_that_is_no_error(person: Person) -> None:
    """Before the first job of all (ours)."""
    assert person.jobs() == (0, "No jobs yet.\n")
    assert person.as_data()["jobs"] == []
    assert person.show("job_1") == (FAILED, "")
    assert person.data.name not in os.listdir(person.data.parent)


def test_a_file_beside_a_database_is_not_taken_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its list would look as if there were no jobs (ours)."""
    settings = {"WAN_MCP_DATA_DIR": str(tmp_path), "WAN_MCP_LEDGER_URL": "postgresql:///canary"}
    said = []
    for words in (["jobs"], ["jobs", "--json"], ["show", "job_1"]):
        run(words, settings, lambda error: pytest.fail(str(error)))
        said.append("".join(capsys.readouterr()))

    assert all("`wan-mcp admin jobs` shows those." in each for each in said)
    assert "canary" not in "".join(said)


async def test_table_shows_jobs_newest_first_with_what_tells_them_apart(
    person: Person, store: SQLiteStore, ledger: Ledger, tmp_path: Path
) -> None:
    await completed(ledger, tmp_path / "videos")
    store.later(3600)
    await record_in(ledger, State.UNKNOWN, wanted(2))

    code, seen = person.jobs()

    head, newest, oldest, _, *costs = seen.splitlines()
    assert code == 0
    assert head.split() == ["JOB", "MADE", "STATUS", "CREDITS", "VIDEO", "FROM"]
    assert newest.split()[1:5] == ["2026-11-23", "13:00", "unknown", "~7"]
    assert oldest.split() == [
        *("job_001", "2026-11-23", "12:00", "completed", "7", "saved"),
        *("clip.mp4", "+", "face.png"),
    ]
    assert costs == [
        "2026-11-23  14 credits for 2 jobs; 7 of them only expected",
        "in all      14 credits for 2 jobs; 7 of them only expected",
    ]


async def test_a_queued_request_is_shown_with_its_place_in_the_queue(
    person: Person, store: SQLiteStore
) -> None:
    """The order is that of the queue, also after the clock was set back (ours)."""
    ledger = store.ledger(SpendingLimits(None, None, 1, None, queued=3))
    running = await claimed(ledger, wanted(1))
    store.later(-3600)
    first, second = [await claimed(ledger, wanted(number)) for number in (2, 3)]

    _, seen = person.jobs()
    lines = {line.split()[0]: line for line in seen.splitlines() if line.startswith("sub_")}
    data = {each["submission_id"]: each for each in person.as_data()["jobs"]}

    assert "queued, no. 1 " in lines[first.submission_id]
    assert "queued, no. 2 " in lines[second.submission_id]
    assert "no." not in lines[running.submission_id]
    assert data[second.submission_id]["queue_position"] == 2
    assert "queue_position" not in data[running.submission_id]
    _, shown = person.show(second.submission_id)
    assert re.search(r"^queue_position +2$", shown, re.M)


@pytest.mark.parametrize("columns", [80, 40])
async def test_table_fits_the_terminal_and_no_id_is_ambiguous(
    person: Person, ledger: Ledger, columns: int
) -> None:
    """With hostile and with wide names; a pipe gets whole ids and names (ours)."""
    wide = "https://media.example/" + "%E3%83%80%E3%83%B3%E3%82%B9" * 9 + ".mp4"
    for number, video in enumerate([wide, f"https://media.example/{HOSTILE}"]):
        await record_in(ledger, State.FAILED, wanted(number, video=video))
    whole = [line.split()[0] for line in person.jobs()[1].splitlines()[1:3]]

    person.columns = columns
    lines = person.jobs()[1].splitlines()[:3]

    assert all(width(line) < columns for line in lines)
    assert all(c.isprintable() for line in lines for c in line)
    for line, id in zip(lines[1:], whole, strict=True):
        short = line.split()[0]
        assert id.startswith(short)
        assert person.show(short)[0] == 0


def replaced_by_link(record: Record, target: Path) -> Path:
    """The path of a saved video, where now there is a link instead."""
    video = Path(record.saved_path or "")
    video.unlink()
    video.symlink_to(target)
    return video


def test_shortened_ids_are_unique_among_all() -> None:
    many = [f"job_{number:020}" for number in range(0, 200, 7)] + ["job_1", "a"]

    short = shortened(many, many)

    assert all(id.startswith(short[id]) for id in many)
    assert all(len(short[id]) >= min(SHORTEST_ID, len(id)) for id in many)
    for id in many:
        assert short[id] == id or [each for each in many if each.startswith(short[id])] == [id]


def test_text_of_strangers_cannot_reach_the_terminal() -> None:
    """Control sequences, directions and invisible letters (ours)."""
    for made in (one_line(HOSTILE), exact(HOSTILE), file_name(f"https://a.example/{HOSTILE}")):
        assert all(c.isprintable() for c in made)
        assert "evil" in made
    assert exact("/films/\x1b[1m\udcff ä.mp4") == "/films/\\x1b[1m\\udcff ä.mp4"
    assert [fitted("ダンス", 5), fitted("ab", 4), width("e\u0301")] == ["ダ...", "ab  ", 1]


async def test_filters_by_status_and_time_and_totals_follow_them(
    person: Person, store: SQLiteStore, ledger: Ledger
) -> None:
    await completed(ledger)
    store.later(2 * 86_400)
    await record_in(ledger, State.FAILED, wanted(2))
    await record_in(ledger, State.REFUSED, wanted(3))

    def found(*statuses: JobStatus, since: Since | None = None) -> tuple[list[str], float]:
        data = person.as_data(*statuses, since=since)
        assert data["matching"] == len(data["jobs"])
        return [job["status"] for job in data["jobs"]], data["credits"]["in_all"]["credits"]

    assert found() == (["refused", "failed", "completed"], 14.0)
    assert found(JobStatus.COMPLETED) == (["completed"], 7.0)
    assert found(JobStatus.REFUSED, JobStatus.LOST) == (["refused"], 0.0)
    assert found(since=timedelta(hours=1)) == (["refused", "failed"], 7.0)
    assert found(since=date(2026, 11, 25)) == (["refused", "failed"], 7.0)
    assert person.jobs(JobStatus.LOST) == (0, "No such jobs.\n")
    assert "The newest 1 of 3; --limit 0 shows all." in person.jobs(limit=1)[1]
    assert len(person.jobs(limit=0)[1].splitlines()) == 4 + 4


def test_a_day_begins_where_the_user_is() -> None:
    """Also on the day on which the clock is changed (ours)."""
    prices = [
        Price(datetime(2026, 10, 24, 21, 59, tzinfo=UTC), 1.0, None),
        Price(datetime(2026, 10, 24, 22, 0, tzinfo=UTC), 2.0, None),  # summer time: + 2 h
        Price(datetime(2026, 10, 25, 22, 59, tzinfo=UTC), 4.0, None),  # winter time: + 1 h
        Price(datetime(2026, 10, 25, 23, 0, tzinfo=UTC), 8.0, None),
    ]
    zone = ZoneInfo("Europe/Berlin")

    found = totals(prices, lambda at: at.astimezone(zone).date())

    assert {day.day: spent.credits for day, spent in found.by_day.items()} == {26: 8, 25: 6, 24: 1}
    assert found.in_all.credits == 15


def test_totals_say_what_is_not_certain_and_name_a_week_of_days() -> None:
    prices = [Price(START - timedelta(days=n), None, 1.5 if n else None) for n in range(10)]
    prices.append(Price(START, -3.0, None))

    lines = lines_of_totals(totals(prices, lambda at: at.date()))

    assert lines[0] == "2026-11-23     0 credits for 2 jobs; 1 job of unknown price"
    assert lines[-2] == "before       4.5 credits for 3 jobs; 4.5 of them only expected"
    assert lines[-1].startswith("in all      13.5 credits for 11 jobs; 13.5 of them only expected")
    assert len(lines) == 9


async def test_show_names_everything_and_keeps_links_whole(
    person: Person, ledger: Ledger, tmp_path: Path
) -> None:
    await completed(ledger, tmp_path / "videos", resolution="720")
    person.zone = timezone(timedelta(hours=2))

    _, seen = person.show("job_0")
    facts = json.loads(person.show("job_001", as_json=True)[1])

    lines = dict(line.split(maxsplit=1) for line in seen.splitlines() if len(line.split()) > 1)
    assert lines["video"] == WANTED.video
    assert lines["video_url"] == LINK
    assert lines["made_at"] == "2026-11-23 14:00:00 +0200"
    assert facts["inputs"]["video_duration"] == 5
    assert facts["inputs"]["resolution"] == "720"
    assert facts["money"] == {"credit_cost": 7.0, "credit_estimate": 2.0, "job_charged": "yes"}
    assert facts["video"]["state"] == "saved"
    assert facts["times"]["made_at"] == "2026-11-23T12:00:00+00:00"


async def test_job_of_files_is_shown_with_their_paths_and_without_hashes(
    person: Person, ledger: Ledger
) -> None:
    """A person knows the path; the hash is for the program (ours)."""
    files: dict[str, Any] = {
        "video": "file:///home/ana/My%20dance.mov#t=12,17",
        "video_sha256": "ab" * 32,
        "character_image": "file:///home/ana/ana.jpg",
        "character_image_sha256": "cd" * 32,
    }
    await completed(ledger, **files)

    _, row = person.jobs()
    _, seen = person.show("job_0")
    inputs = json.loads(person.show("job_0", as_json=True)[1])["inputs"]

    assert "My dance.mov + ana.jpg" in row
    assert re.search(r"^ *video +/home/ana/My dance\.mov#t=12,17$", seen, re.MULTILINE)
    assert inputs["character_image"] == "/home/ana/ana.jpg"
    assert "sha256" not in inputs
    assert "abab" not in seen
    assert file_name("wan://jobs/job_7f3a/video#t=3") == "wan://jobs/job_7f3a/video#t=3"


async def test_an_id_that_is_ambiguous_or_unknown_is_said_to_be(
    person: Person, ledger: Ledger
) -> None:
    """The word itself is not repeated: it may be a key (ours)."""
    for number in (1, 2):
        await completed(ledger, number=number)

    assert person.show("job_00") == (FAILED, "")
    assert "job_002, job_001" in person.errors
    assert person.forget("secret-word") == (FAILED, "")
    assert "secret-word" not in person.errors
    assert "No job has this id" in person.errors


async def test_open_gives_the_video_or_its_folder_to_the_system(
    person: Person, ledger: Ledger, tmp_path: Path
) -> None:
    record = await completed(ledger, tmp_path / "videos")
    video = Path(record.saved_path or "")

    assert person.open("job_001") == (0, f"{video}\n")
    assert person.open("job_001", folder=True) == (0, f"{video.parent}\n")
    assert person.opened == [video, video.parent]


async def test_open_says_the_path_where_nothing_opens_it(
    person: Person, ledger: Ledger, tmp_path: Path
) -> None:
    record = await completed(ledger, tmp_path / "videos")
    person.opens = False

    assert person.open("job_001") == (FAILED, f"{record.saved_path}\n")


@pytest.mark.skipif(sys.platform == "win32", reason="links of POSIX")
async def test_open_refuses_what_is_not_the_video(
    person: Person, ledger: Ledger, tmp_path: Path
) -> None:
    """Neither a link that somebody put in its place, nor a file that is gone (ours)."""
    record = await completed(ledger, tmp_path / "videos")
    await completed(ledger, number=2)
    video = replaced_by_link(record, tmp_path)

    codes = [person.open("job_001")[0]]
    os.unlink(video)
    codes += [person.open("job_001")[0], person.open("job_002")[0]]

    assert codes == [FAILED] * 3
    assert person.opened == []
    for part in ("a link, or a file of another user", "no longer where", "not saved here"):
        assert part in person.errors


@pytest.mark.skipif(sys.platform != "linux", reason="the opener of Linux desktops")
def test_on_linux_a_desktop_is_needed_to_open_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one, xdg-open shows the file in the terminal (observed elsewhere)."""
    program = tmp_path / "xdg-open"
    program.write_text(f'#!/bin/sh\nprintf %s "$1" > {tmp_path}/opened\n')
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    assert not openers.open_with_system(Path("/a b.mp4"), {})
    assert not (tmp_path / "opened").exists()
    assert openers.open_with_system(Path("/a b.mp4"), {"DISPLAY": ":0"})
    assert (tmp_path / "opened").read_text() == "/a b.mp4"
    program.write_text("#!/bin/sh\nexit 3\n")
    assert not openers.open_with_system(Path("/a.mp4"), {"WAYLAND_DISPLAY": "wayland-0"})


async def test_a_kept_video_is_marked_until_that_is_undone(
    person: Person, ledger: Ledger, tmp_path: Path
) -> None:
    """The mark is in the ledger, where every server on it reads it (ours)."""
    record = await completed(ledger, tmp_path / "videos")
    await completed(ledger, tmp_path / "videos", number=2)

    assert person.keep("job_001") == (
        0,
        "job_001 is kept: the size limit does not delete its video.\n"
        "To undo this: wan-mcp keep --undo job_001\n",
    )
    assert await ledger.coordination.kept_videos() == [record.saved_path]
    assert json.loads(person.show("job_001", as_json=True)[1])["video"]["kept"] is True
    assert person.keep("job_001", kept=False) == (0, "job_001 is not kept any more.\n")
    assert await ledger.coordination.kept_videos() == []


@pytest.mark.parametrize("state", [State.FAILED, State.REFUSED, State.NOT_SENT])
async def test_a_job_without_a_video_is_not_kept(
    person: Person, ledger: Ledger, state: State
) -> None:
    """A yes that keeps nothing would be a lie (ours)."""
    record = await record_in(ledger, state)

    assert person.keep(record.submission_id) == (FAILED, "")
    assert person.errors == "This job has no video that could be kept."


async def test_a_job_can_be_kept_before_its_video_is_saved_and_forgotten_after(
    person: Person, ledger: Ledger, tmp_path: Path
) -> None:
    """The mark holds from the first moment; forgetting takes it away with the rest (ours)."""
    record = await completed(ledger)
    assert person.keep("job_001")[0] == 0
    await ledger.coordination.saved(record.submission_id, "/videos/a.mp4", "ab" * 32, 7)

    assert await ledger.coordination.kept_videos() == ["/videos/a.mp4"]
    assert person.forget("job_001", agreed=True)[0] == 0
    assert await ledger.coordination.kept_videos() == []
    assert person.keep("job_001") == (FAILED, "")


async def test_forget_asks_and_deletes_the_video_and_its_note(
    person: Person, ledger: Ledger, tmp_path: Path
) -> None:
    videos = tmp_path / "videos"
    record = await completed(ledger, videos)
    await completed(ledger, videos, number=2)

    code, seen = person.forget("job_001")

    assert (code, person.questions) == (0, ["Forget it? [y/N] "])
    assert f"It deletes its video: {record.saved_path}" in seen
    assert seen.endswith("It is forgotten.\n")
    assert sorted(path.name for path in videos.iterdir()) == [
        ".2026-11-23_job_002.json",
        "2026-11-23_job_002.mp4",
    ]
    assert person.forget("job_001") == (0, "It was forgotten already.\n")
    assert "forgotten" in person.jobs()[1]
    assert "clip.mp4" not in person.show("job_001")[1]


async def test_forget_does_nothing_without_a_yes(
    person: Person, ledger: Ledger, tmp_path: Path
) -> None:
    record = await completed(ledger, tmp_path / "videos")
    person.agrees = False

    code, seen = person.forget("job_001")

    assert (code, seen.splitlines()[-1]) == (FAILED, "Nothing was forgotten.")
    assert await ledger.find(ME, "job_001") == record
    assert person.open("job_001")[0] == 0


async def test_forget_says_that_the_video_of_a_lost_job_will_not_be_saved(
    person: Person, ledger: Ledger
) -> None:
    """PixelDojo may have paid work on it that nobody has seen (ours)."""
    record = await record_in(ledger, State.LOST)

    code, seen = person.forget(record.public_id, agreed=True)

    assert code == 0
    assert "ITS VIDEO WILL NOT BE SAVED" in seen


async def test_forget_says_that_a_video_which_is_not_saved_will_be_lost(
    person: Person, ledger: Ledger
) -> None:
    await completed(ledger)

    code, seen = person.forget("job_001", agreed=True)

    assert (code, person.questions) == (0, [])
    assert "NOT SAVED HERE, AND WILL BE LOST" in seen


@pytest.mark.parametrize("state", [State.SENDING, State.ACCEPTED, State.UNKNOWN])
async def test_forget_refuses_a_live_job_with_the_reason(
    person: Person, ledger: Ledger, state: State
) -> None:
    record = await record_in(ledger, state, WANTED)

    assert person.forget(record.submission_id, agreed=True) == (FAILED, "")
    assert person.errors.startswith("This job is not forgotten: ")


async def test_what_a_dead_server_had_not_sent_can_be_forgotten(
    person: Person, store: SQLiteStore
) -> None:
    """It is over, although no server has said so yet (promises 9)."""
    ledger = store.ledger()
    record = await record_in(ledger, State.INTENT, WANTED)
    await store.end(ledger, killed=True)

    assert person.forget(record.submission_id, agreed=True)[0] == 0


@pytest.mark.skipif(sys.platform == "win32", reason="links of POSIX")
async def test_nothing_is_forgotten_if_the_video_cannot_be_removed(
    person: Person, ledger: Ledger, tmp_path: Path
) -> None:
    """Otherwise nothing would say any more where it is (ours)."""
    record = await completed(ledger, tmp_path / "videos")
    private = tmp_path / "private"
    private.write_text("mine")
    replaced_by_link(record, private)

    assert person.forget("job_001", agreed=True)[0] == FAILED

    assert "Nothing was forgotten, because the video cannot be removed" in person.errors
    assert private.read_text() == "mine"
    assert await ledger.find(ME, "job_001") == record


async def test_no_file_is_removed_if_the_ledger_cannot_be_changed(
    person: Person, store: SQLiteStore, ledger: Ledger, tmp_path: Path
) -> None:
    """A newer version, for example, may have more that is to be removed (ours)."""
    record = await completed(ledger, tmp_path / "videos")
    await store.end(ledger)
    with closing(connect(person.data / "ledger/ledger.db")) as newer:
        newer.execute("PRAGMA user_version = 99")

    assert person.forget("job_001", agreed=True) == (FAILED, "")
    assert "newer version" in person.errors
    assert person.open("job_001") == (0, f"{record.saved_path}\n")


async def test_a_job_that_was_bought_by_a_tool_is_forgotten_and_not_bought_again(
    tmp_path: Path, person: Person
) -> None:
    """From the paid call to the last byte, beside the server that runs on (ours)."""
    person.store.now = datetime.now(UTC)
    async with Sandbox(Terms(pending_seconds=0, processing_seconds=0)) as sandbox:
        settings = Settings.read(
            {
                "PIXELDOJO_API_BASE": sandbox.api_base,
                "PIXELDOJO_API_KEY": sandbox.key,
                "WAN_MCP_DATA_DIR": str(person.data),
                "WAN_MCP_PREFLIGHT": "off",
            }
        )
        given = {"video": sandbox.source_video_url, "character_image": sandbox.image_url}
        async with Client(build_server(settings, local=True)) as client:

            async def call(tool: str, **arguments: Any) -> dict[str, Any]:
                return dict((await client.call_tool(tool, arguments)).structured_content or {})

            bought = await call("replace_character", **given)
            done = await call("wait_for_job", job_id=bought["job_id"])
            code, _ = await anyio.to_thread.run_sync(
                lambda: person.forget(bought["job_id"], agreed=True)
            )
            files = [path for path in person.data.rglob("*") if path.is_file()]
            left = b"".join(path.read_bytes() for path in files)
            requests = len(sandbox.requests)
            status = await call("get_job_status", job_id=bought["job_id"])
            listed = await call("list_jobs")
            again = await call("replace_character", **given)

            assert len(sandbox.charges) == 1
            assert len(sandbox.requests) - requests <= 1  # the price of the equal call

    assert (done["status"], code) == ("completed", 0)
    assert done["saved_path"] not in map(str, files)
    name = Path(done["saved_path"]).name
    for secret in (sandbox.source_video_url, sandbox.image_url, done["video_url"], name):
        assert secret.encode() not in left
    assert "video removed" in status["message"]
    assert "video_url" not in status
    assert listed["jobs"][0].keys().isdisjoint({"source_video", "character_image", "video_url"})
    assert (again["job_id"], again["charged"]) == (bought["job_id"], "no")
    assert "another seed" in again["next"]


def test_commands_are_registered_and_end_quietly_when_nobody_reads_on(tmp_path: Path) -> None:
    """`wan-mcp jobs | head` (ours)."""
    environment = {**os.environ, "WAN_MCP_DATA_DIR": str(tmp_path), "WAN_MCP_LOG_LEVEL": "ERROR"}
    command = [sys.executable, "-m", "wan_mcp", "jobs", "--since", "7d", "--limit", "5"]
    reading, writing = os.pipe()
    os.close(reading)

    ended = subprocess.run(
        command, env=environment, stdout=writing, stderr=subprocess.PIPE, check=False
    )
    os.close(writing)

    assert (ended.returncode, ended.stderr) == (0, b"")
