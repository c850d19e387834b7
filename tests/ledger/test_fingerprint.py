"""When two requests are equal, and what of a request and of a foreign text is stored."""

import hashlib
import hmac

import pytest

from wan_mcp.ledger.fingerprint import account_name, fingerprint_of, one_spelling, without_queries
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
