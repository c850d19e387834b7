"""How an input names a file of this computer or an earlier job, and what no file can be called."""

from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wan_mcp.inputs.local.references import (
    MAX_PATH,
    FileReference,
    Fragment,
    JobReference,
    Reference,
    UploadReference,
    is_elsewhere,
    reference,
)

HOME = PurePosixPath("/home/ana")
WINDOWS_HOME = PureWindowsPath("C:\\Users\\ana")


def posix(text: str) -> Reference | None:
    return reference(text, home=HOME, windows=False)


def windows(text: str) -> Reference | None:
    return reference(text, home=WINDOWS_HOME, windows=True)


@pytest.mark.parametrize(
    ("text", "path", "fragment"),
    [
        ("~/Videos/dance.mov", "/home/ana/Videos/dance.mov", ""),
        ("/data/My clip.mov", "/data/My clip.mov", ""),
        ("/data/a%20b.mov", "/data/a%20b.mov", ""),
        ("/data/take #2.mov", "/data/take #2.mov", ""),
        ("/data/take #2.mov#t=3", "/data/take #2.mov", "#t=3"),
        ("file:///data/My%20clip.mov", "/data/My clip.mov", ""),
        ("file:///data/take%20%232.mov#t=1.5,4", "/data/take #2.mov", "#t=1.5,4"),
        ("FILE://LOCALHOST/data/a.mov", "/data/a.mov", ""),
        ("file:/data/a.mov", "/data/a.mov", ""),
        ("file:///data/%FF.mov", "/data/\udcff.mov", ""),
        ("/a.mov#t=12", "/a.mov", "#t=12"),
        ("/a.mov#t=12,17", "/a.mov", "#t=12,17"),
        ("/a.mov#t=,5", "/a.mov", "#t=0,5"),
        ("/a.mov#t=0", "/a.mov", ""),
        ("/a.mov#t=0:12", "/a.mov", "#t=12"),
        ("/a.mov#t=npt:1:02:03.5,1:02:05", "/a.mov", "#t=3723.5,3725"),
        ("file:///a.mov#t=1%2C2", "/a.mov", "#t=1,2"),
    ],
)
def test_a_file_can_be_named_in_every_usual_way(text: str, path: str, fragment: str) -> None:
    """RFC 8089 and W3C Media Fragments (documented); a path without a scheme is taken literally."""
    found = posix(text)

    assert isinstance(found, FileReference)
    assert str(found.path) == path
    assert str(found.fragment) == fragment
    assert posix(found.uri) == found


@pytest.mark.parametrize(
    ("text", "path", "uri"),
    [
        ("C:\\Clips\\a.mp4#t=3", "C:\\Clips\\a.mp4", "file:///C:/Clips/a.mp4#t=3"),
        ("c:/Clips/a b.mp4", "c:\\Clips\\a b.mp4", "file:///c:/Clips/a%20b.mp4"),
        ("file:///C:/Clips/a%20b.mp4", "C:\\Clips\\a b.mp4", "file:///C:/Clips/a%20b.mp4"),
        ("~\\Videos\\a.mp4", "C:\\Users\\ana\\Videos\\a.mp4", "file:///C:/Users/ana/Videos/a.mp4"),
    ],
)
def test_paths_of_windows_are_read_there(text: str, path: str, uri: str) -> None:
    """Microsoft's forms of a full path on a drive (documented)."""
    found = windows(text)

    assert isinstance(found, FileReference)
    assert str(found.path) == path
    assert found.uri == uri
    assert windows(uri) == found


UPLOAD = "wan://uploads/video_abcdefghij234567"


@pytest.mark.parametrize("text", [UPLOAD, "WAN://Uploads/video_abcdefghij234567"])
@pytest.mark.parametrize("fragment", ["", "#t=12,17"])
def test_an_upload_is_named_by_its_id(text: str, fragment: str) -> None:
    found = posix(f"{text}{fragment}")

    assert isinstance(found, UploadReference)
    assert (found.id, found.uri) == ("video_abcdefghij234567", f"{UPLOAD}{fragment}")


@pytest.mark.parametrize(
    "text",
    [
        *("/home/ana/dance.mov", "~/dance.mov", "./dance.mov", "dance.mov", "Videos/dance.mov"),
        *("C:\\Clips\\dance.mov", "C:/dance.mov", "\\\\nas\\dance.mov", "/mnt/user-data/a.png"),
        *("file:///home/ana/a.png", "FILE:a.png", "data:image/png;base64,AA", "my dance.mov"),
    ],
)
def test_what_means_a_file_of_another_computer_is_recognized(text: str) -> None:
    """Whatever system that has (ours)."""
    assert is_elsewhere(text)


@pytest.mark.parametrize(
    "text",
    [
        *("https://example.com/a.mov", "http://127.0.0.1/a", "ftp://example.com/a", "wan://jobs/a"),
        *("example.com/a.mov", "//example.com/a.mov", "example.com:8080/a", "s3://bucket/a.mov"),
    ],
)
def test_a_link_is_no_file_of_another_computer(text: str) -> None:
    assert not is_elsewhere(text)


@pytest.mark.parametrize("text", ["wan://jobs/J-1/video", "WAN://jobs/J-1/film"])
@pytest.mark.parametrize("fragment", ["", "#t=2,7"])
def test_the_video_of_an_earlier_job_has_two_names(text: str, fragment: str) -> None:
    """`film` is the name of the resource in the first release (ours)."""
    found = posix(text + fragment)

    assert isinstance(found, JobReference)
    assert found.uri == f"wan://jobs/J-1/video{fragment}"
    assert posix(found.uri) == found


@pytest.mark.parametrize(
    "text",
    [
        *("https://example.com/a.mp4#t=1", "HTTP://example.com/a", "example.com/a.mp4"),
        *("ftp://example.com/a.mp4", "data:image/png;base64,AAAA", "blob:https://example.com/1"),
    ],
)
def test_whatever_else_has_a_scheme_or_a_host_is_taken_for_a_link(text: str) -> None:
    """What is wrong with a link is said elsewhere (ours)."""
    assert posix(text) is None
    assert windows(text) is None


SECRET = "canary"
MALFORMED = {
    "relative": (f"Videos/{SECRET}.mp4", "must be a link .*full path"),
    "relative-with-a-dot": (f"./{SECRET}.mp4", "full path"),
    "relative-upwards": (f"../{SECRET}.mp4", "full path"),
    "relative-uri": (f"file:{SECRET}.mp4", "full path"),
    "empty": ("", "full path"),
    "home-of-another-user": (f"~{SECRET}/a.mp4", "another user's home"),
    "nul": (f"/{SECRET}\0.mp4", "control characters"),
    "nul-in-a-uri": (f"file:///{SECRET}%00.mp4", "control characters"),
    "line-break": (f"/{SECRET}\n.mp4", "control characters"),
    "no-character": (f"/{SECRET}\ud800.mp4", "control characters"),
    "too-long": (f"/{SECRET}" + "a" * 5_000, "longer than 4,096"),
    "share": (f"\\\\{SECRET}\\share\\a.mp4", "another computer"),
    "share-with-slashes": (f"//{SECRET}/share/a.mp4", "another computer"),
    "share-in-a-uri": (f"file://{SECRET}/share/a.mp4", "another computer"),
    "share-in-the-path-of-a-uri": (f"file:////{SECRET}/share/a.mp4", "another computer"),
    "device-of-windows": (f"\\\\.\\pipe\\{SECRET}", "another computer"),
    "broken-escape": (f"file:///{SECRET}%2", "not a well-formed file: URI"),
    "query": (f"file:///{SECRET}?a=1", "not a well-formed file: URI"),
    "job-of-no-name": ("wan://jobs//video", "must be wan://jobs/"),
    "upload-of-no-id": ("wan://uploads/", "must be wan://uploads/"),
    "upload-with-a-path": (f"wan://uploads/../{SECRET}", "must be wan://uploads/"),
    "upload-for-nothing": ("wan://uploads/sound_abcdefghij234567", "must be wan://uploads/"),
    "another-resource": (f"wan://jobs/{SECRET}/poster", "must be wan://jobs/"),
    "job-with-a-path": (f"wan://jobs/../{SECRET}/video", "must be wan://jobs/"),
    "time-in-words": (f"/a.mp4#t={SECRET}", "not a time"),
    "no-time": ("/a.mp4#t=", "not a time"),
    "comma-alone": ("/a.mp4#t=,", "not a time"),
    "end-left-out": ("/a.mp4#t=3,", "not a time"),
    "negative": ("/a.mp4#t=-3", "not a time"),
    "frames": ("/a.mp4#t=smpte:0:00:01", "not a time"),
    "sixty-seconds": ("/a.mp4#t=0:60", "not a time"),
    "backwards": ("/a.mp4#t=5,3", "ends before it begins"),
    "nothing": ("/a.mp4#t=5,5", "ends before it begins"),
    "area": (f"file:///a.mp4#xywh={SECRET}", "not a time"),
    "two-fragments": ("file:///a.mp4#t=1&track=2", "not a time"),
    "sharp-in-a-uri": (f"file:///take#{SECRET}.mp4", "not a time"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_reference_is_refused_without_repeating_it(case: str) -> None:
    """A value may be a secret, or a text that gives orders to a model (ours)."""
    text, words = MALFORMED[case]

    with pytest.raises(ValueError, match=words) as refused:
        posix(text)

    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        *("C:a.mp4", "\\a.mp4", "/a.mp4", "\\/host/a.mp4"),
        *("C:\\a.mp4:stream", "~\\a.mp4:s", "~\\C:\\a.mp4", "file:///C:/a.mp4:s"),
        *("C:\\Videos\\.. \\a.mp4", "C:\\Videos\\a.mp4.", "~\\a.mp4 ", "C:\\Private. \\a.mp4"),
        *("C:\\Videos\\NUL", "C:\\Videos\\com1.mp4", "~/aux/a.mp4", "file:///C:/V/LPT\u00b9.mp4"),
    ],
)
def test_windows_takes_only_full_paths_on_a_drive(text: str) -> None:
    """The others depend on the working folder, or are a hidden stream, a device or another name
    of a file there (documented)."""
    with pytest.raises(ValueError, match=r"full path|colon|another computer|ends with|device"):
        windows(text)


@pytest.mark.parametrize("name", ["console.mp4", "com.mp4", "a..b.mp4", "nul2.mp4", "lpt10.mp4"])
def test_names_that_only_resemble_a_device_are_files(name: str) -> None:
    """As people give them (ours)."""
    assert isinstance(windows(f"C:\\Videos\\{name}"), FileReference)


def test_a_path_of_windows_elsewhere_is_named_as_such() -> None:
    """A model on another computer than its user may give one (assumed)."""
    with pytest.raises(ValueError, match="path of Windows"):
        posix("C:\\Clips\\a.mp4")


NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=20
)
TIMES = st.integers(0, 999_999_999).map(lambda thousandths: thousandths / 1000)


@st.composite
def fragments(draw: st.DrawFn) -> Fragment:
    start, end = sorted(draw(st.tuples(TIMES, TIMES)))
    return Fragment(start, end if end > start and draw(st.booleans()) else None)


@given(st.lists(NAMES, min_size=1, max_size=4), fragments())
@settings(deadline=None, max_examples=150)
def test_every_file_and_every_part_of_it_can_be_named(names: list[str], part: Fragment) -> None:
    """A URI means what it was made of, so a repeated call is the same request (ours)."""
    meant = FileReference(PurePosixPath("/", *names), part)

    assert posix(meant.uri) == meant
    assert meant.uri.isascii()


@given(st.text(max_size=60).map("".join) | st.from_regex(r"(~|/|file:|wan://jobs/|C:\\).{0,40}"))
@settings(deadline=None, max_examples=300)
def test_any_text_is_a_reference_a_link_or_refused_in_words(text: str) -> None:
    """Nothing else can happen to what a model writes; reading it again gives the same (ours)."""
    for read in (posix, windows):
        try:
            found = read(text)
        except UnicodeError:
            raise
        except ValueError:
            continue
        assert found is None or len(found.uri) > MAX_PATH or read(found.uri) == found
