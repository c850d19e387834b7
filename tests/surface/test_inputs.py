"""The clip and the picture as a caller may give them: links, paths of this computer, and jobs."""

import sys
from pathlib import Path
from typing import Any

import pytest

from wan_mcp.errors import InvalidArguments
from wan_mcp.inputs.local.folders import InputFolders
from wan_mcp.settings import Settings
from wan_mcp.surface.arguments import ReplaceCharacter, read_arguments
from wan_mcp.surface.prompts import prompt_text

LINK = "https://cdn.example.com/clip.mp4"
PICTURE = "https://cdn.example.com/face.png"
OF_A_JOB = "wan://jobs/job_7f3a/video"
posix = pytest.mark.skipif(sys.platform == "win32", reason="the paths are those of POSIX")


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ana")


def read(*, local: bool, **given: Any) -> ReplaceCharacter:
    both = {"video": LINK, "character_image": PICTURE}
    return read_arguments(ReplaceCharacter, {**both, **given}, loopback=False, local=local)


def refusal(*, local: bool, **given: Any) -> str:
    with pytest.raises(InvalidArguments) as caught:
        read(local=local, **given)
    return caught.value.what


FILES = [
    ("/home/ana/Videos/dance.mov", "file:///home/ana/Videos/dance.mov"),
    ("  ~/Videos/My dance.mov ", "file:///home/ana/Videos/My%20dance.mov"),
    ("file:///home/ana/My%20dance.mov", "file:///home/ana/My%20dance.mov"),
]
CUT = [
    ("~/dance.mov#t=12", "file:///home/ana/dance.mov#t=12"),
    ("~/dance.mov#t=0:12,17", "file:///home/ana/dance.mov#t=12,17"),
    (f"{OF_A_JOB}#t=12,17", f"{OF_A_JOB}#t=12,17"),
]
JOBS = [
    (OF_A_JOB, OF_A_JOB),
    ("wan://jobs/job_7f3a/film", OF_A_JOB),
    ("wan://jobs/sub_aaaabbbb/video", "wan://jobs/sub_aaaabbbb/video"),
]
LINKS = [(LINK, LINK), (f"{LINK}?sig=a%20b&c=d", f"{LINK}?sig=a%20b&c=d"), (f"{LINK}#t=0.001",) * 2]


@posix
@pytest.mark.parametrize(("given", "canonical"), [*FILES, *CUT, *JOBS, *LINKS])
def test_clip_may_be_a_file_a_job_or_a_link_over_stdio(given: str, canonical: str) -> None:
    """In one spelling each, so that equal calls are equal (ours)."""
    assert read(local=True, video=given).replacement().video == canonical


@posix
def test_tilde_means_the_home_folder_of_the_settings_also_within_a_snap() -> None:
    """A snap has a HOME of its own, in which the user keeps no videos (documented)."""
    real = Settings.read({"HOME": "/home/ana/snap/x/7", "SNAP_REAL_HOME": "/home/ana"}).home
    given = {"video": "~/Videos/a.mov", "character_image": PICTURE}
    read = read_arguments(ReplaceCharacter, given, loopback=False, local=True, home=real)
    refused = prompt_text({"video": "~other/a.mov"}, 1, loopback=False, local=True, home=real)

    assert read.video == "file:///home/ana/Videos/a.mov"
    assert "not usable" in refused
    assert str(InputFolders((Path("/home/ana/Videos"),), home=real)) == "~/Videos"
    assert str(InputFolders((Path("/home/ana/snap/x/7/Videos"),), home=real)) == (
        "~/snap/x/7/Videos"
    )


@pytest.mark.parametrize(("given", "canonical"), [*JOBS, CUT[-1], *LINKS])
def test_clip_may_be_a_job_or_a_link_over_http(given: str, canonical: str) -> None:
    """The videos of jobs are the account's own wherever it calls from (ours)."""
    assert read(local=False, video=given).replacement().video == canonical


@posix
@pytest.mark.parametrize(("given", "canonical"), [*FILES, (PICTURE, PICTURE)])
def test_picture_may_be_a_file_or_a_link_over_stdio(given: str, canonical: str) -> None:
    """The same spellings as of the clip (ours)."""
    assert read(local=True, character_image=given).replacement().character_image == canonical


@posix
@pytest.mark.parametrize("name", ["video", "character_image"])
@pytest.mark.parametrize(
    "given", [path for path, _ in [*FILES, *CUT[:2]]] + ["dance.mov", "~ana/x"]
)
def test_path_over_http_is_refused_with_what_to_give_instead(name: str, given: str) -> None:
    """Who calls over HTTP need not be who owns the files (ours)."""
    said = refusal(local=False, **{name: given})

    assert f"{name} is " in said
    assert "give a public https link to the file itself" in said


NEVER = [
    ("dance.mov", "or the full path of a file"),
    ("~bob/dance.mov", "must not be in another user's home folder"),
    ("//server/share/dance.mov", "on another computer"),
    ("file://server/dance.mov", "on another computer"),
    ("/home/ana/\0dance.mov", "contains control characters"),
    ("/home/ana/" + "x" * 5_000, "is longer than 4,096 characters"),
    ("~/dance.mov#t=17,12", "has a fragment that ends before it begins"),
    ("~/dance.mov#t=soon", "has a fragment that is not a time"),
    ("wan://jobs/job_1/poster", "must be wan://jobs/{job_id}/video"),
    ("wan://jobs/../video", "must be wan://jobs/{job_id}/video"),
    ("data:video/mp4;base64,AAAA", "is a data: URL"),
    ("https://youtu.be/abc", "download the file and give its path"),
    (
        "http://127.0.0.1/clip.mp4",
        "points at this machine (PixelDojo must be able to fetch it: give",
    ),
    (f"{LINK}#t=12,17", "is a link, of which no seconds can be taken by #t="),
    (f"{LINK}?a=b#xywh=1,2,3,4&t=0:30", "is a link, of which no seconds can be taken by #t="),
]


@posix
@pytest.mark.parametrize(("given", "words"), NEVER, ids=[given[:40] for given, _ in NEVER])
def test_clip_of_another_form_is_refused_with_the_reason(given: str, words: str) -> None:
    """Before anything is looked at on the disk (ours)."""
    said = refusal(local=True, video=given)

    assert said.startswith("The arguments cannot be used: video ")
    assert words in said


@posix
@pytest.mark.parametrize(
    ("given", "words"),
    [
        (OF_A_JOB, "must be a picture, and wan:// leads to the video of a job"),
        ("~/ana.jpg#t=3", "is a picture, of which no seconds can be taken"),
        ("file:///home/ana/ana.jpg#t=3,4", "is a picture, of which no seconds can be taken"),
    ],
)
def test_picture_is_neither_a_video_nor_a_part_of_one(given: str, words: str) -> None:
    """What cannot be meant is said before it is paid for (ours)."""
    assert f"character_image {words}" in refusal(local=True, character_image=given)


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize(
    ("fragment", "seconds"),
    [
        ("#t=12,17", 5),
        ("#t=,15", 15),
        ("#t=0:12,0:15.5", 3),
        ("#t=12.1,17.1", 5),
        ("#t=1,16.9", 15),
    ],
)
def test_fragment_with_an_end_sets_the_seconds(local: bool, fragment: str, seconds: int) -> None:
    """Whole ones, because the parameter takes no others (vendor)."""
    given = read(local=local, video=OF_A_JOB + fragment)

    assert (given.replacement().seconds, given.video_duration) == (seconds, seconds)
    assert read_arguments(ReplaceCharacter, given.model_dump(), loopback=False) == given


@pytest.mark.parametrize(
    ("fragment", "asked", "seconds"),
    [("#t=12", {}, 5), ("", {}, 5), ("#t=12,60", {"video_duration": 9}, 9)],
)
def test_seconds_that_no_fragment_sets_are_the_asked_ones(
    fragment: str, asked: dict[str, int], seconds: int
) -> None:
    """Five is PixelDojo's default (vendor)."""
    assert read(local=False, video=OF_A_JOB + fragment, **asked).replacement().seconds == seconds


@pytest.mark.parametrize(
    ("fragment", "asked", "words"),
    [
        ("#t=12,28", {}, "video has a fragment of 16 s, and a job makes 1 to 15 (end it sooner"),
        ("#t=12,12.5", {}, "video has a fragment of 0.5 s, and a job makes 1 to 15 (end it later"),
        (
            "#t=12,15",
            {"video_duration": "7"},
            "video_duration is 7, and the fragment of video has 3 s (ask for fewer",
        ),
    ],
)
def test_fragment_that_does_not_fit_is_refused_with_both_figures(
    fragment: str, asked: dict[str, Any], words: str
) -> None:
    """Nobody pays for other seconds than the ones that were meant (ours)."""
    said = refusal(local=False, video=OF_A_JOB + fragment, **asked)

    assert words in said
    assert f"used: {words.partition(' ')[0]} " in said


def test_prompt_says_of_a_fragment_what_the_tool_would_say() -> None:
    """It is asked for before the price is agreed to (ours)."""
    given = {"video": f"{OF_A_JOB}#t=1,3", "character_image": PICTURE, "video_duration": "9"}
    said = prompt_text(given, 1, loopback=False)

    assert "- video_duration: not usable: it is 9, and the fragment of video has 2 s" in said


@pytest.mark.parametrize("local", [True, False])
def test_prompt_asks_for_a_path_only_where_one_is_taken(local: bool) -> None:
    """Over HTTP a person would look for one in vain (ours)."""
    said = prompt_text({"video": "/home/ana/a.mov"}, 1, loopback=False, local=local)

    assert ("paths on my computer" in said) is local
    assert ('- video: "/home/ana/a.mov"' in said) is local
    assert "wan://jobs/{job_id}/video" in said


SECRET = "CANARYsecret77"
SHAPES = [
    "/home/ana/{}/\0.mov",
    "{}/dance.mov",
    "~{}/dance.mov",
    "//{}/share/dance.mov",
    "file://{}/dance.mov",
    "/home/ana/{}.mov#t=9,3",
    "/home/ana/{}.jpg#t=3,20",
    "wan://jobs/{}/../video",
    "wan://jobs/{}/video#t=1,40",
    "http://127.0.0.1/{}?X-Amz-Signature={}",
    "https://bucket.s3.example.com/clip.mp4?X-Amz-Signature={}#t=12",
    "https://{}:{}@bucket.example.com/clip.mp4",
    "s3://{}/clip.mp4",
    "{}",
]


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize("name", ["video", "character_image"])
@pytest.mark.parametrize("shape", SHAPES)
def test_no_path_link_or_secret_is_repeated_in_a_refusal(
    local: bool, name: str, shape: str
) -> None:
    """A refusal goes into logs and into conversations of others (ours)."""
    try:
        read(local=local, **{name: shape.format(SECRET, SECRET)})
    except InvalidArguments as refused:
        said = f"{refused.what} {refused.next_step} {refused!r} {refused.__cause__!r}"
        assert "CANARY" not in said
        assert "/home/ana" not in said
        assert "bucket" not in said
