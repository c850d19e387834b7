"""What the tools accept, what they refuse, and what a refusal says."""

import json
import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wan_mcp.errors import InvalidArguments
from wan_mcp.models import Replacement
from wan_mcp.surface.arguments import (
    Arguments,
    GetJobStatus,
    ListJobs,
    ReplaceCharacter,
    WaitForJob,
    read_arguments,
)

patient = settings(deadline=None)  # a busy machine is no defect

VIDEO = "https://cdn.example.com/clip.mp4"
IMAGE = "https://cdn.example.com/face.png"
BOTH = {"video": VIDEO, "character_image": IMAGE}
SECRET = "QJXZ-secret-VWK"

HUGE = 10**5000
DEEP: list[Any] = []
for _ in range(50_000):
    DEEP = [DEEP]


def label(value: object) -> str:
    """A test's name; neither HUGE nor DEEP can be printed."""
    return ascii(value)[:20] if isinstance(value, str | float | bool) else type(value).__name__


def read(**given: Any) -> ReplaceCharacter:
    return read_arguments(ReplaceCharacter, {**BOTH, **given}, loopback=False)


def refusal(model: type[Arguments] = ReplaceCharacter, /, **given: Any) -> str:
    with pytest.raises(InvalidArguments) as caught:
        read_arguments(model, given, loopback=False)
    return caught.value.what


@pytest.mark.parametrize(
    ("given", "number"),
    [
        *[(7, 7), (7.0, 7), ("7", 7), ("7.0", 7), (" 7 ", 7), ("+7", 7), ("007", 7), (7e0, 7)],
        *[(1, 1), (15, 15), ("15.000", 15)],
    ],
)
def test_whole_number_is_read_from_what_models_send(given: Any, number: int) -> None:
    """Models send "7" for 7; nothing is lost by taking it (ours)."""
    duration = read(video_duration=given).video_duration

    assert (number, int) == (duration, type(duration))


@pytest.mark.parametrize(
    "given",
    [
        *[True, False, 5.5, "7.5", "7.01", math.nan, math.inf, -math.inf, 1e400],
        *[10**400, -(10**400), HUGE, "9" * 5000, "1" * 19, "7." + "0" * 5000],
        *[0, 16, -1, "0", "16", "five", "0x7", "7e0", "1_0", "\u0667", "\uff17", "7\n"],
        *[[], [7], {}, {"value": 7}, '"7"', "[7]", "true", DEEP],
    ],
    ids=label,
)
def test_anything_else_is_no_whole_number(given: Any) -> None:
    """A lossy reading would pay for what nobody asked for (ours)."""
    message = refusal(**BOTH, video_duration=given)

    assert "video_duration must be a whole number from 1 to 15" in message


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("video_duration", 1, 15), ("refert_num", 1, 10), ("frames_per_second", 8, 30)],
)
def test_documented_limits_are_held_at_both_ends(name: str, low: int, high: int) -> None:
    """The ranges are the vendor's (vendor)."""
    assert low == getattr(read(**{name: low}), name)
    assert high == getattr(read(**{name: high}), name)
    for outside in (low - 1, high + 1):
        assert f"{name} must be a whole number from {low} to {high}" in refusal(
            **BOTH, **{name: outside}
        )


@pytest.mark.parametrize(
    ("given", "seed"),
    [
        (0, 0),
        ("42", 42),
        (2**53 - 1, 2**53 - 1),
        (42.0, 42),
        (-1, None),
        ("-1", None),
        (-1.0, None),
    ],
)
def test_seed_of_minus_one_means_any(given: Any, seed: int | None) -> None:
    """Some frameworks make every argument required, so leaving out needs a value (ours)."""
    assert seed == read(seed=given).replacement().seed


@pytest.mark.parametrize("given", [-2, 2**53, 1.5, True, "random"])
def test_seed_outside_exact_numbers_is_refused(given: Any) -> None:
    """Beyond 2**53 - 1 a JSON number is not exact in every program (ours)."""
    assert "seed must be a whole number from -1 to 9007199254740991" in refusal(**BOTH, seed=given)


@pytest.mark.parametrize(
    "given", ["720", 720, 720.0, "720p", "720P", " 720 ", "720.0", " 720p "], ids=repr
)
def test_resolution_is_read_from_number_word_or_p(given: Any) -> None:
    """The schema says "720", a model says 720 or "720p" (ours)."""
    assert read(resolution=given).resolution == "720"


@pytest.mark.parametrize(
    "given",
    [
        *["1080", 1080, 479, 480.5, True, False, "p", "480i", "hd", "480x720", [480], {}],
        *[math.nan, math.inf, HUGE, "4" * 5000, DEEP, ["480"]],
    ],
    ids=label,
)
def test_other_resolution_is_refused(given: Any) -> None:
    """Only two are documented (vendor)."""
    assert 'resolution must be "480" or "720"' in refusal(**BOTH, resolution=given)


@pytest.mark.parametrize(
    ("given", "flag"),
    [(True, True), (False, False), ("true", True), ("True", True), (" FALSE ", False)],
)
def test_flag_is_read_from_true_and_false(given: Any, flag: bool) -> None:
    """Models send "true" for true (ours)."""
    assert flag is read(go_fast=given).go_fast


@pytest.mark.parametrize(
    "given", [1, 0, 1.0, "1", "yes", "no", "on", [], {}, [True], DEEP], ids=label
)
def test_other_flag_is_refused(given: Any) -> None:
    """A guess at what "yes, but" means may cost credits (ours)."""
    assert "merge_audio must be true or false" in refusal(**BOTH, merge_audio=given)


@pytest.mark.parametrize("given", [None, 7, True, [VIDEO], {"url": VIDEO}, b"x", DEEP], ids=label)
def test_address_must_be_a_string(given: Any) -> None:
    """A list or an object is never unwrapped: one address is one string (ours)."""
    message = refusal(video=given, character_image=IMAGE)

    assert ("video is required" if given is None else "video must be a link or a path") in message


def test_spaces_around_an_address_are_dropped() -> None:
    """A pasted address often has one (ours)."""
    assert read(video=f"  {VIDEO} ").video == VIDEO


def test_loopback_address_is_accepted_only_beside_a_loopback_api() -> None:
    """The sandbox's clip is on this machine, PixelDojo's never is (ours)."""
    here = {**BOTH, "video": "http://127.0.0.1:1/clip.mp4"}

    assert "video points at this machine" in refusal(**here)
    assert read_arguments(ReplaceCharacter, here, loopback=True).video == here["video"]


@pytest.mark.parametrize("nothing", [None, "", " ", "null", "NULL"])
def test_nothing_means_left_out_for_every_optional_argument(nothing: str | None) -> None:
    """Strict-schema hosts and forms send something for what they leave out (observed elsewhere)."""
    optional = {name: nothing for name in ReplaceCharacter.model_fields if name not in BOTH}

    assert read() == read(**optional)
    assert Replacement(video=VIDEO, character_image=IMAGE) == read(**optional).replacement()
    assert (
        read_arguments(
            WaitForJob, {"job_id": "j", "timeout_seconds": nothing}, loopback=False
        ).timeout_seconds
        == 45
    )
    assert read_arguments(ListJobs, {"status": nothing, "limit": nothing}, loopback=False) == (
        read_arguments(ListJobs, {}, loopback=False)
    )


@pytest.mark.parametrize("nothing", [None, "", "null"])
def test_required_argument_that_is_left_out_is_missed(nothing: str | None) -> None:
    """By its name, and not as a link that cannot be read (ours)."""
    assert "video is required." in refusal(character_image=IMAGE, video=nothing)


@pytest.mark.parametrize("model", [ReplaceCharacter, WaitForJob, ListJobs, GetJobStatus])
@pytest.mark.parametrize(
    "name",
    [
        *["toolCallId", "tool", "sessionId", "action", "chatInput", "task_progress"],
        *["wait_for_previous", "waitForPreviousTools", "toolSummary", "toolAction", "user_id"],
        *["reasoning", "security_risk", "explanation", "_meta", "requestId", "conversation_id"],
        *["prompt", "aspect_ratio", "confirm", "webhook_url", "pd_4f9a0c2e77b1", "\ud800", ""],
    ],
    ids=ascii,
)
def test_argument_that_a_host_adds_is_ignored(model: type[Arguments], name: str) -> None:
    """Hosts send their own along with ours; refused, no tool would work (observed elsewhere)."""
    needed = {ReplaceCharacter: BOTH, ListJobs: {}}.get(model, {"job_id": "job_1"})

    assert read_arguments(model, {**needed, name: "x"}, loopback=False) == (
        read_arguments(model, needed, loopback=False)
    )


def test_replacement_holds_only_what_the_caller_set() -> None:
    """A default that nobody chose is the vendor's to apply (ours)."""
    bare = read().replacement()
    chosen = read(
        video_duration="9",
        resolution=480,
        refert_num=5,
        frames_per_second=24,
        go_fast=False,
        merge_audio="true",
        seed=3,
    ).replacement()

    assert Replacement(video=VIDEO, character_image=IMAGE, seconds=5) == bare
    assert (
        Replacement(
            video=VIDEO,
            character_image=IMAGE,
            seconds=9,
            resolution="480",
            references=5,
            frames_per_second=24,
            go_fast=False,
            merge_audio=True,
            seed=3,
        )
        == chosen
    )


@pytest.mark.parametrize("given", ["job_1", "J", "0-_", "a" * 128, " job_1 "])
def test_job_id_of_plain_characters_is_accepted(given: str) -> None:
    """The form of the vendor's ids is not documented, so any plain word may be one (ours)."""
    read_id = read_arguments(GetJobStatus, {"job_id": given}, loopback=False).job_id

    assert given.strip() == read_id


@pytest.mark.parametrize(
    "given",
    [
        *["a" * 129, "-a", "_a", "a/b", "../api-keys", "a%2F..", "a?b", "a#b", "a b"],
        *["a\n", "j\u00f6b", "a.b", "a\x00", 7, True, ["a"], {"job_id": "a"}, DEEP],
    ],
    ids=label,
)
def test_job_id_that_could_climb_is_refused(given: Any) -> None:
    """/jobs/../../api-keys would reach another endpoint with the key (ours)."""
    message = refusal(GetJobStatus, job_id=given)

    assert "job_id must be a job_id as replace_character returned it" in message


@pytest.mark.parametrize(("given", "seconds"), [(0, 0), ("900", 900), (45.0, 45)])
def test_waiting_time_is_read_in_seconds(given: Any, seconds: int) -> None:
    """Zero is a look, 900 s is longer than any job reported (ours)."""
    message = read_arguments(WaitForJob, {"job_id": "j", "timeout_seconds": given}, loopback=False)

    assert seconds == message.timeout_seconds


@pytest.mark.parametrize("given", [-1, 901, "forever", True, math.inf])
def test_waiting_time_without_end_is_refused(given: Any) -> None:
    """A call that never returns is cut off by its host, and its answer lost (ours)."""
    message = refusal(WaitForJob, job_id="j", timeout_seconds=given)

    assert "timeout_seconds must be a whole number from 0 to 900" in message


def test_all_problems_of_a_call_are_named_at_once() -> None:
    """Each round with a model costs its user time and tokens (ours)."""
    message = refusal(
        video="file:///etc/passwd", video_duration=5.5, resolution="1080", go_fast=1, fps=30
    )

    for problem in (
        "video is a path on this computer",
        "character_image is required",
        "video_duration must be a whole number",
        'resolution must be "480" or "720"',
        "go_fast must be true or false",
        "fps is unknown",
    ):
        assert message.count(problem) == 1, problem


@pytest.mark.parametrize(
    ("given", "near"),
    [
        *[("resolutoin", "resolution"), ("duration", "video_duration"), ("fast", "go_fast")],
        *[("refer_num", "refert_num"), ("character", "character_image"), ("SEED", "seed")],
        *[("video_url", "video"), ("frames_per_sec", "frames_per_second")],
        *[
            ("fps", "frames_per_second"),
            ("videoDuration", "video_duration"),
            ("length", "video_duration"),
        ],
        *[("image_url", "character_image"), ("sound", "merge_audio"), ("height", "resolution")],
    ],
)
def test_unknown_argument_is_refused_with_the_nearest_name(given: str, near: str) -> None:
    """A dropped option would run a paid job with its default (ours)."""
    message = refusal(**BOTH, **{given: 7})

    assert f"{given} is unknown (did you mean {near}?)" in message


def test_thousand_unknown_arguments_get_a_short_answer() -> None:
    """The answer goes into a model's context (ours)."""
    message = refusal(**{f"unknown_{n}": n for n in range(1_000)})

    assert len(message) < 2_000
    assert "video is required; character_image is required" in message
    assert "and 982 more" in message


@pytest.mark.parametrize(
    "name",
    ["seed=1", "see d", "se\ned", "s\u00e9ed", "seed123", "<seed>", "\u202eseed", "${seed}"],
    ids=ascii,
)
def test_odd_argument_name_is_not_repeated(name: str) -> None:
    """Only a plain short word is echoed: a name may be a key in the wrong place (ours)."""
    message = refusal(**BOTH, **{name: 1})

    assert "used: an argument is unknown (did you mean seed?). The tool takes" in message


@pytest.mark.parametrize("name", [*ReplaceCharacter.model_fields, "seeds"])
@pytest.mark.parametrize("shape", ["{}", "https://u:{}@example.com/", "/home/{}", '{{"a": "{}"}}'])
def test_value_is_never_repeated_in_a_refusal(name: str, shape: str) -> None:
    """A value may be a secret or a signed link, and a log would keep it (ours)."""
    message = refusal(**{**BOTH, name: shape.format(SECRET)})

    assert SECRET not in message
    assert len(message) < 600


@pytest.mark.parametrize(
    "wrapped", [{"arguments": BOTH}, {"input": BOTH}, {"params": json.dumps(BOTH)}]
)
def test_wrapped_arguments_are_refused_with_the_names_expected(wrapped: dict[str, Any]) -> None:
    """PixelDojo's body is flat, and so are the tool's arguments (vendor)."""
    message = refusal(**wrapped)

    assert "video is required; character_image is required" in message
    assert VIDEO not in message


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["7", "720p", "true", VIDEO, "job_1", 10**400, "\ud800", 2**63]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
NAMES = st.sampled_from([*ReplaceCharacter.model_fields, *WaitForJob.model_fields, "Video"])
CALLS = st.dictionaries(NAMES | st.text(max_size=12), JSON, max_size=8)


@patient
@given(call=CALLS, model=st.sampled_from([ReplaceCharacter, GetJobStatus, WaitForJob]))
@example(call={**BOTH, "resolution": HUGE}, model=ReplaceCharacter)
@example(call={"\ud800": 1}, model=GetJobStatus)
def test_any_json_gives_arguments_or_a_refusal(
    call: dict[str, Any], model: type[Arguments]
) -> None:
    """A defect while reading would be answered as "charged: unknown" (ours)."""
    message = "The arguments cannot be used: "
    try:
        arguments = read_arguments(model, call, loopback=False)
        assert arguments == read_arguments(model, arguments.model_dump(), loopback=False)
    except InvalidArguments as refused:
        message = refused.what

    assert message.isascii()
    assert message.startswith("The arguments cannot be used: ")


@patient
@given(call=st.dictionaries(NAMES, JSON, max_size=8))
def test_whatever_is_accepted_makes_a_plain_request(call: dict[str, Any]) -> None:
    """What passes the door can be written down and sent: no value of it breaks JSON (ours)."""
    wanted = read_or_nothing({**BOTH, **call})

    if wanted is not None:
        assert wanted == Replacement.model_validate_json(wanted.model_dump_json())


def read_or_nothing(call: dict[str, Any]) -> Replacement | None:
    known = {name: call[name] for name in call if name in ReplaceCharacter.model_fields}
    try:
        return read_arguments(ReplaceCharacter, known, loopback=False).replacement()
    except InvalidArguments:
        return None
