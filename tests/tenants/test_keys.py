"""The key ring: what it seals, only the same ring opens, and only in the same place."""

import base64

import pytest

from wan_mcp.tenants.keys import BadKeyRing, KeyRing, NotOpened

KEY = "pd_canary_5d1f"


def line(id: str, byte: int = 1) -> str:
    """A line of a key ring whose key is one byte, again and again."""
    return f"{id} {base64.b64encode(bytes([byte]) * 32).decode()}"


def ring(*lines: str) -> KeyRing:
    return KeyRing.read("\n".join(lines))


def test_sealed_key_is_opened_by_the_same_ring_and_does_not_show_it() -> None:
    """Each sealing differs, so equal keys cannot be seen (documented, AES-GCM)."""
    one = ring(line("a"))
    sealed = [one.seal(KEY, "wallet") for _ in range(2)]

    assert [ring(line("a")).open(each, "wallet") for each in sealed] == [KEY, KEY]
    assert sealed[0] != sealed[1]
    assert KEY not in sealed[0]


def test_derived_ring_seals_with_keys_of_its_own() -> None:
    """Strangers may let it seal, which the keys of wallets must not be used up by (ours)."""
    whole = ring(line("b", 2), line("a", 1))
    derived = whole.derived("pages")
    sealed = derived.seal(KEY, "cookie")
    others = (whole, whole.derived("else"), ring(line("b", 1), line("a", 2)).derived("pages"))

    assert ring(line("a", 1), line("b", 2)).derived("pages").open(sealed, "cookie") == KEY
    assert [each.opens(sealed, "cookie") for each in others] == [False] * 3
    assert not derived.opens(whole.seal(KEY, "cookie"), "cookie")


def test_first_key_seals_and_all_keys_open() -> None:
    """So keys are replaced without a moment at which something cannot be opened (ours)."""
    old = ring(line("a", 1)).seal(KEY, "wallet")
    both = ring(line("b", 2), line("a", 1))
    new = both.seal(KEY, "wallet")

    assert both.open(old, "wallet") == both.open(new, "wallet") == KEY
    assert ring(line("b", 2)).open(new, "wallet") == KEY
    assert [both.is_sealed_with_first(each) for each in (old, new)] == [False, True]


def test_sealed_key_opens_in_no_other_place() -> None:
    """A row that is copied over another one gives nobody another's key (ours)."""
    one = ring(line("a"))
    with pytest.raises(NotOpened, match="changed"):
        one.open(one.seal(KEY, "wallet of Ann"), "wallet of Bob")


@pytest.mark.parametrize("other", [[line("b")], [line("a", 9)]], ids=["missing", "changed"])
def test_wrong_ring_says_which_key_it_lacks_and_nothing_of_the_content(other: list[str]) -> None:
    sealed = ring(line("a")).seal(KEY, "wallet")
    with pytest.raises(NotOpened) as refused:
        ring(*other).open(sealed, "wallet")

    assert "the key a" in str(refused.value)
    assert sealed.rpartition(".")[2] not in str(refused.value)


@pytest.mark.parametrize(
    "damaged", ["", "1", "1.a", "1.a.", "1.a.!!", "2.a.AAAA", "1.a.AAAA", "x" * 99]
)
def test_what_is_no_sealed_text_is_not_opened(damaged: str) -> None:
    with pytest.raises(NotOpened):
        ring(line("a")).open(damaged, "wallet")


def test_one_changed_character_is_noticed() -> None:
    one = ring(line("a"))
    sealed = one.seal(KEY, "wallet")
    other = "A" if sealed[-5] != "A" else "B"
    with pytest.raises(NotOpened):
        one.open(f"{sealed[:-5]}{other}{sealed[-4:]}", "wallet")


def test_comments_and_empty_lines_are_no_keys() -> None:
    read = ring("# the keys of the team", "", f"  {line('a')}  ", line("b", 2))

    assert read.first == "a"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no key"),
        ("# nothing", "no key"),
        ("canary-4711", "line 1 is not"),
        (f"{line('a')}\ncanary 4711 x", "line 2 is not"),
        ("a Y2FuYXJ5LTQ3MTE=", "line 1 is not 32 bytes"),
        ("a canary-4711===", "line 1 is not 32 bytes"),
        (f"{line('a')}\n{line('a', 2)}", "two keys have the id a"),
    ],
)
def test_bad_ring_is_named_by_its_line_without_its_content(text: str, reason: str) -> None:
    with pytest.raises(BadKeyRing, match=reason) as refused:
        KeyRing.read(text)

    assert "canary" not in str(refused.value)
    assert "Y2Fu" not in str(refused.value)
