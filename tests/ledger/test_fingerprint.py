"""When two requests are equal, and what of a request and of a foreign text is stored."""

import pytest

from wan_mcp.ledger.fingerprint import account_name, fingerprint_of, without_queries
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
