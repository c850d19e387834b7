"""Names, ids and tokens: what they can be, and what hostile ones become."""

import pytest

from wan_mcp.tenants.names import LONGEST_NAME, is_exact, is_name, new_id, shown
from wan_mcp.tenants.tokens import id_of, is_same, new_token, sha256_of

HOSTILE = {
    "Robert'); DROP TABLE users;--": "Robert'); DROP TABLE users;--",
    "Ann\n2026-01-01 INFO: all is well": "Ann 2026-01-01 INFO: all is well",
    "Ann\x00\x1b[2J\x07": "Ann[2J",
    "\u202ennA\u2066": "nnA",
    "A\u200bn\ufeffn": "Ann",
    "  Ann \t  Lee ": "Ann Lee",
    "Ann\udcff": "Ann",
    "x" * 100_000: "x" * LONGEST_NAME,
    "A\u030angstro\u0308m": "\u00c5ngstr\u00f6m",
    "\u2028\u2029": "",
}
"""To each name, what is shown of it."""


@pytest.mark.parametrize(("name", "plain"), HOSTILE.items(), ids=range(len(HOSTILE)))
def test_name_is_shown_as_one_harmless_line(name: str, plain: str) -> None:
    """A log, a terminal and a database each obey other characters (ours)."""
    assert shown(name) == plain
    assert shown(plain) == plain
    assert is_name(name) == (bool(plain) and name == plain)


@pytest.mark.parametrize("text", ["", "a\0b", "a\nb", "\udcff", "x" * 256])
def test_text_that_cannot_be_stored_as_it_is_names_nobody(text: str) -> None:
    """To shorten or to clean a subject would make two people one (ours)."""
    assert not is_exact(text, 255)


def test_ids_say_what_they_are_of_and_differ() -> None:
    ids = {new_id("u") for _ in range(1_000)}

    assert len(ids) == 1_000
    assert {id[0] for id in ids} == {"u"}


def test_token_has_its_id_and_a_secret_of_256_bits() -> None:
    one, other = new_token(), new_token()

    assert id_of(one.text) == one.id
    assert len(one.text) == len("wan__") + 10 + 43
    assert is_same(sha256_of(one.text), one.sha256)
    assert not is_same(sha256_of(other.text), one.sha256)


@pytest.mark.parametrize(
    "text",
    [
        *("", "wan_", "pd_key", "wan_abcdefghjk_short", "wan_ABCDEFGHJK_" + "x" * 43),
        *("wan_abcdefghjk_" + "x" * 44, "wan_abcdefghjk_" + "x" * 42 + "\n", "x" * 1_000_000),
        "wan_abcdefghjk_" + "x" * 43 + "\n",
        "wan_abcdefghj'_" + "x" * 43,
        "wan_abcdefghj\u0660_" + "x" * 43,
    ],
)
def test_what_does_not_look_like_a_token_is_none(text: str) -> None:
    """The database is not asked about it (ours)."""
    assert id_of(text) is None
