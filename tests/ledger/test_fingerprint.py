"""When two requests are equal, and what of a request and of a foreign text is stored."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan_mcp.ledger.fingerprint import (
    account_name,
    fingerprint_of,
    one_spelling,
    order_of,
    spelling_key,
    without_queries,
    without_query,
)
from wan_mcp.models import Replacement

PLAIN = Replacement(
    video="https://media.example/clip.mp4", character_image="https://media.example/face.png"
)


def changed(**arguments: object) -> Replacement:
    return Replacement.model_validate(PLAIN.model_dump() | arguments)


@pytest.mark.parametrize(
    "same",
    [
        changed(video="HTTPS://Media.Example:443/clip.mp4"),
        changed(video="https://media.example./clip.mp4#t=3"),
        changed(seconds=5),
        changed(resolution="480", go_fast=False, merge_audio=True),
    ],
)
def test_another_spelling_is_the_same_request(same: Replacement) -> None:
    """Case of the host, default port, fragment and named defaults change nothing (documented)."""
    one, other = fingerprint_of("me", PLAIN), fingerprint_of("me", same)

    assert (one.dedupe_key, one.exact_key) == (other.dedupe_key, other.exact_key)


@pytest.mark.parametrize(
    "other",
    [
        changed(video="https://media.example/Clip.mp4"),
        changed(video="http://media.example/clip.mp4"),
        changed(video="https://media.example:8443/clip.mp4"),
        changed(character_image="https://media.example/other.png"),
        changed(seconds=6),
        changed(resolution="720"),
        changed(references=1),
        changed(frames_per_second=24),
        changed(go_fast=True),
        changed(merge_audio=False),
        changed(seed=1),
        changed(seed=0),
    ],
)
def test_every_argument_makes_another_request(other: Replacement) -> None:
    """Whatever may change the video changes the dedupe key (promises 8)."""
    assert fingerprint_of("me", PLAIN).dedupe_key != fingerprint_of("me", other).dedupe_key


def test_account_makes_another_request() -> None:
    """Two accounts may buy the same video."""
    assert fingerprint_of("me", PLAIN).dedupe_key != fingerprint_of("you", PLAIN).dedupe_key


def test_query_of_a_url_changes_the_exact_key_only() -> None:
    """A link signed again is the same request, and its query is not stored (promises 8)."""
    signed = fingerprint_of("me", changed(video="https://media.example/clip.mp4?sig=secret#x"))
    plain = fingerprint_of("me", PLAIN)

    assert signed.dedupe_key == plain.dedupe_key
    assert signed.exact_key != plain.exact_key
    assert signed.arguments == plain.arguments


def test_address_with_an_ipv6_host_keeps_its_brackets() -> None:
    """They are a part of the address."""
    request = fingerprint_of("me", changed(video="http://[2001:DB8::1]:8080/a.mp4?x"))

    assert request.arguments["video"] == "http://[2001:db8::1]:8080/a.mp4"


def test_the_keys_of_links_are_those_of_every_version() -> None:
    """Else two versions on one ledger could each pay for the same request (ours)."""
    plain = fingerprint_of("me", PLAIN)
    other = fingerprint_of(
        "me", changed(video="https://media.example/clip.mp4?id=2", resolution="720", seed=4)
    )

    assert plain.dedupe_key == "c8e6cb587edc57c833d1e900a5a405e5eca94df33dce66f716a47762ebe72736"
    assert other.dedupe_key == "99ddd8eb95cbd9c8d833dcd407519e452abd3b6028237ea22076a4e4da56c8a0"
    assert other.exact_key == "3fec9db7b5af5b7139c4432ed04800388a57c2b740a4a3a8d967127f9cc72aae"
    assert (
        spelling_key("me", other.arguments)
        == "0a7e41c16940a13d8254035ff444b7bcbf396aa33c4e1bad73c30ed952939868"
    )


HASH = "ab" * 32
FILE = changed(video="file:///home/ana/Videos/dance.mov#t=12,17", video_sha256=HASH)
CHAIN = changed(video="wan://jobs/job_1/video#t=3")


def file(**arguments: object) -> Replacement:
    return Replacement.model_validate(FILE.model_dump() | arguments)


@pytest.mark.parametrize(
    "same",
    [
        file(video="file:///mnt/copy%23.mp4#t=12,17"),
        file(character_image="HTTPS://media.example:443/face.png#x"),
    ],
    ids=lambda each: each.video,
)
def test_a_moved_copy_of_a_file_is_the_same_request(same: Replacement) -> None:
    """The content decides, not the path: the same call would be paid and uploaded twice (ours)."""
    one, other = fingerprint_of("me", FILE), fingerprint_of("me", same)

    assert (one.dedupe_key, one.exact_key) == (other.dedupe_key, other.exact_key)
    assert one_spelling(one.arguments) == one_spelling(other.arguments)
    assert not one.has_query


@pytest.mark.parametrize(
    "other",
    [
        file(video="file:///home/ana/Videos/dance.mov"),
        file(video="file:///home/ana/Videos/dance.mov#t=12"),
        file(video_sha256="cd" * 32),
        file(video="https://media.example/clip.mp4", video_sha256=None),
        CHAIN,
    ],
    ids=lambda each: each.video,
)
def test_another_part_or_another_content_is_another_request(other: Replacement) -> None:
    """They make other videos (ours)."""
    one, two = fingerprint_of("me", FILE), fingerprint_of("me", other)

    assert one.dedupe_key != two.dedupe_key
    assert one_spelling(one.arguments) != one_spelling(two.arguments)
    assert spelling_key("me", one.arguments) != spelling_key("me", two.arguments)


def test_a_record_keeps_the_whole_path_of_a_file_and_its_hash() -> None:
    """The user recognises the job by the path (ours)."""
    assert fingerprint_of("me", FILE).arguments == FILE.model_dump(exclude_none=True)


def test_the_video_of_a_job_is_recognised_by_the_text_that_names_it() -> None:
    """Its bytes need not be here, and no link of it stays the same (ours)."""
    fingerprint = fingerprint_of("me", CHAIN)

    assert fingerprint.arguments["video"] == CHAIN.video
    other = fingerprint_of("me", changed(video="wan://jobs/job_1/video"))
    assert fingerprint.dedupe_key != other.dedupe_key


def test_a_file_whose_content_was_not_read_has_no_fingerprint() -> None:
    """By its path alone, a changed file would get the video of the file before (ours)."""
    with pytest.raises(ValueError, match="not read"):
        fingerprint_of("me", file(video_sha256=None))


def test_how_an_input_was_sent_changes_nothing_of_which_request_it_is() -> None:
    """The link is signed anew for each request, and its place may change with the settings."""
    given = fingerprint_of("me", FILE).arguments
    sent = {**given, "sent_video": "https://s3.example/inputs/x.mp4", "sent_notes": "It was cut."}

    assert one_spelling(sent) == one_spelling(given)
    assert spelling_key("me", sent) == spelling_key("me", given)


def test_account_name_depends_on_base_key_and_secret() -> None:
    """Sandbox and PixelDojo never mix, and names of two ledgers cannot be compared."""
    names = {
        account_name(secret, base, key)
        for secret in (b"one", b"two")
        for base in ("https://a.example/v1", "https://b.example/v1")
        for key in ("k", "l")
    }

    assert len(names) == 8
    assert {len(name) for name in names} == {64}


BASE = "https://pixeldojo.ai/api/v1"
SANDBOX = "http://127.0.0.1:8788/api/v1"


@pytest.mark.parametrize("base", [BASE, SANDBOX, "https://a.example:8443/v1"])
def test_account_name_of_a_plain_address_never_changes(base: str) -> None:
    """Else the paid jobs of an account would no longer be found (ours)."""
    plain = hmac.new(b"secret", f"{base}\0key".encode(), hashlib.sha256).hexdigest()

    assert account_name(b"secret", base, "key") == plain


@pytest.mark.parametrize(
    ("base", "same"),
    [
        ("http://localhost:8788/api/v1", SANDBOX),
        ("http://LOCALHOST.:8788/api/v1/", SANDBOX),
        ("http://[::1]:8788/api/v1", SANDBOX),
        ("http://127.1.2.3:8788/api/v1", SANDBOX),
        ("https://PixelDojo.ai:443/api/v1/", BASE),
        ("https://pixeldojo.ai//api///v1", BASE),
        ("https://pixeldojo.ai/%61pi/v%31", BASE),
        ("https://pixeldojo.ai/./api/x/../v1", BASE),
        ("https://pixeldojo.ai/a%2fb", "https://pixeldojo.ai/a%2Fb"),
    ],
)
def test_account_that_is_spelt_in_two_ways_is_one(base: str, same: str) -> None:
    """Two accounts would have the limits of a day twice (observed)."""
    assert account_name(b"secret", base, "key") == account_name(b"secret", same, "key")


@pytest.mark.parametrize(
    "base", ["https://pixeldojo.ai/a%2Fpi/v1", "http://pixeldojo.ai/api/v1", f"{BASE}2"]
)
def test_address_that_means_something_else_is_another_account(base: str) -> None:
    """An escaped slash is no slash (RFC 3986)."""
    assert account_name(b"secret", base, "key") != account_name(b"secret", BASE, "key")


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        (None, None),
        ("no face found", "no face found"),
        (
            "cannot fetch https://h.example/a?sig=1&x=2, sorry",
            "cannot fetch https://h.example/a sorry",
        ),
        (
            'see "HTTP://h.example/a?sig=1" and http://b.example/#frag',
            'see "HTTP://h.example/a" and http://b.example/',
        ),
        ("why? because", "why? because"),
        (
            "cannot fetch https://h.example/it's?d=UTF-8''c&sig=1",
            "cannot fetch https://h.example/it's",
        ),
    ],
)
def test_queries_are_removed_from_text_of_others(text: str | None, stored: str | None) -> None:
    """PixelDojo's error may quote the signed link of an input (assumed)."""
    assert without_queries(text) == stored


@pytest.mark.parametrize(
    "same",
    [
        ("https://a.example/%7Eme/a.mp4", "https://a.example/~me/a.mp4"),
        ("https://a.example/a%2fb.mp4", "https://a.example/a%2Fb.mp4"),
        ("https://a.example/x/../a.mp4", "https://a.example/./a.mp4"),
        ("https://a.example/../a.mp4", "https://a.example/a.mp4"),
        ("https://a.example/x/..", "https://a.example/"),
        ("https://a.example/\u00fc.mp4", "https://a.example/%C3%BC.mp4"),
        ("https://a.example/a b.mp4", "https://a.example/a%20b.mp4"),
        ("https://m\u00fcnchen.example/a.mp4", "https://xn--mnchen-3ya.example/a.mp4"),
        ("https://a.example/%61.mp4", "https://a.example/a.mp4"),
    ],
)
def test_links_that_mean_the_same_have_one_spelling(same: tuple[str, str]) -> None:
    """RFC 3986 and IDNA; the keys stay those of every earlier version (ours)."""
    one, other = (fingerprint_of("me", changed(video=link)) for link in same)

    assert one_spelling(one.arguments) == one_spelling(other.arguments)
    assert one.dedupe_key != other.dedupe_key


@pytest.mark.parametrize(
    "other",
    [
        ("https://a.example/a%2Fb.mp4", "https://a.example/a/b.mp4"),
        ("https://a.example/a//b.mp4", "https://a.example/a/b.mp4"),
        ("https://a.example/A.mp4", "https://a.example/a.mp4"),
        ("https://a.example/a.mp4/", "https://a.example/a.mp4"),
        ("https://a.example/a+b.mp4", "https://a.example/a%20b.mp4"),
        ("https://a.example/%253F.mp4", "https://a.example/%3F.mp4"),
        ("https://stra\u00dfe.example/a.mp4", "https://strasse.example/a.mp4"),
        ("https://a.example:8443/a.mp4", "https://a.example/a.mp4"),
    ],
)
def test_links_that_may_lead_elsewhere_stay_different(other: tuple[str, str]) -> None:
    """The video of another request would be worse than a second payment (ours)."""
    one, two = (fingerprint_of("me", changed(video=link)).arguments for link in other)

    assert one_spelling(one) != one_spelling(two)


@given(st.text(alphabet="ab%20/.?#=&:@\u00e9", max_size=30))
def test_a_url_without_its_query_is_the_part_before_the_question_mark(rest: str) -> None:
    """Both ways to it must give one key, because older versions went the other one (ours)."""
    url = f"https://Example.com:443/{rest}"
    arguments = fingerprint_of("me", Replacement(video=url, character_image=url)).arguments

    assert arguments["video"] == without_query(url)


CLIP = changed(video="file:///home/ana/clip.mp4#t=1,6", video_sha256="1" * 64)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (PLAIN, changed(seed=1)),
        (changed(seed=1), changed(seed=2)),
        (changed(seed=1), changed(resolution="480", seed=2)),
        (changed(video="https://media.example/clip%2Emp4"), changed(seed=2)),
        (CLIP, CLIP.model_copy(update={"video": "file:///tmp/copy.mp4#t=1,6", "seed": 2})),
    ],
)
def test_requests_that_differ_in_their_seed_only_are_takes_of_one_order(
    one: Replacement, other: Replacement
) -> None:
    """A file is its content, wherever it lies (ours)."""
    orders = {order_of(fingerprint_of("me", each).arguments) for each in (one, other)}

    assert len(orders) == 1
    assert None not in orders


@pytest.mark.parametrize(
    "other",
    [
        changed(seconds=6),
        changed(resolution="720"),
        changed(merge_audio=False),
        changed(character_image="https://media.example/other.png"),
        CLIP,
    ],
)
def test_requests_that_differ_in_anything_else_are_two_orders(other: Replacement) -> None:
    """Two lengths of a video are nothing that one would choose a take from (ours)."""
    orders = {order_of(fingerprint_of("me", each).arguments) for each in (PLAIN, other)}

    assert len(orders) == 2


def test_how_an_input_was_sent_does_not_make_another_order() -> None:
    """Each upload has a link of its own (ours)."""
    given = fingerprint_of("me", CLIP).arguments
    sent = given | {"sent_video": "https://bucket.example/1.mp4", "sent_notes": "cut", "seed": 3}

    assert order_of(sent) == order_of(given)


@pytest.mark.parametrize("arguments", [{}, {"seconds": 5, "resolution": "480"}])
def test_a_job_whose_inputs_are_not_known_has_no_order(arguments: dict[str, str | int]) -> None:
    """It was submitted elsewhere, or forgotten (ours)."""
    assert order_of({**arguments}) is None
