"""The rules that engines share, without a database: what is equal, what is kept, what is local."""

from datetime import UTC, datetime
from pathlib import PurePosixPath

import pytest

from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.fingerprint import account_name, fingerprint_of, without_queries
from wan_mcp.ledger.spending_limits import FreesAt, LimitReached, SpendingLimits
from wan_mcp.ledger.sqlite.folder import shared_filesystem
from wan_mcp.models import Replacement

PLAIN = Replacement(
    video="https://media.example/clip.mp4", character_image="https://media.example/face.png"
)

MOUNTS = r"""
22 1 252:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
23 22 0:21 / /home rw shared:2 - nfs4 nas:/home rw
24 23 252:2 / /home/local rw shared:3 - xfs /dev/vdb rw
25 22 0:30 / /mnt/my\040share rw - cifs //nas/share rw
26 22 0:31 / /mnt/c rw - 9p drvfs rw
27 22 0:32 / /mnt/ssh rw - fuse.sshfs host: rw
28 22 0:33 / /mnt/zip rw - fuse.archivemount zip rw
29 22 0:34 / /twice rw - nfs nas:/x rw
30 29 252:3 / /twice rw - btrfs /dev/vdc rw
31 22 0:35 / /host/virtiofs rw - virtiofs home rw
32 22 0:36 / /host/grpcfuse rw - fuse.grpcfuse grpcfuse rw
33 22 0:37 / /host/osxfs rw - osxfs osxfs rw
34 22 0:38 / /host/fuse.osxfs rw - fuse.osxfs osxfs rw
35 22 0:39 / /host/vboxsf rw - vboxsf home rw
36 22 0:40 / /host/vmhgfs rw - fuse.vmhgfs-fuse vmhgfs-fuse rw
37 22 0:41 / /host/prl_fs rw - prl_fs home rw
""".strip()


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
    """Host case, default port, fragment and spelled-out defaults change nothing. (documented)"""
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
    """Whatever may change the film changes the digest. (ours)"""
    assert fingerprint_of("me", PLAIN).dedupe_key != fingerprint_of("me", other).dedupe_key


def test_account_makes_another_request() -> None:
    """Two accounts may buy the same film. (ours)"""
    assert fingerprint_of("me", PLAIN).dedupe_key != fingerprint_of("you", PLAIN).dedupe_key


def test_query_of_a_url_tells_exact_digests_apart_only() -> None:
    """A link signed anew is the same request; what is kept of it has no query. (ours)"""
    signed = fingerprint_of("me", changed(video="https://media.example/clip.mp4?sig=secret#x"))
    plain = fingerprint_of("me", PLAIN)

    assert signed.dedupe_key == plain.dedupe_key
    assert signed.exact_key != plain.exact_key
    assert signed.arguments == plain.arguments


def test_address_with_an_ipv6_host_is_kept_whole() -> None:
    """The brackets belong to the address. (ours)"""
    request = fingerprint_of("me", changed(video="http://[2001:DB8::1]:8080/a.mp4?x"))

    assert request.arguments["video"] == "http://[2001:db8::1]:8080/a.mp4"


def test_account_name_depends_on_base_key_and_secret() -> None:
    """Sandbox and real jobs never mix, and two ledgers' names cannot be compared. (ours)"""
    names = {
        account_name(secret, base, key)
        for secret in (b"one", b"two")
        for base in ("https://a.example/v1", "https://b.example/v1")
        for key in ("k", "l")
    }

    assert len(names) == 8
    assert {len(name) for name in names} == {64}


@pytest.mark.parametrize(
    ("text", "kept"),
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
def test_queries_are_cut_from_what_others_wrote(text: str | None, kept: str | None) -> None:
    """The vendor's error may quote the signed input URL. (assumed)"""
    assert without_queries(text) == kept


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/wan", None),
        ("/home/me/.local", "nfs4"),
        ("/home/local/me", None),
        ("/homestead", None),
        ("/mnt/my share/wan", "cifs"),
        ("/mnt/c/Users/me", "9p"),
        ("/mnt/ssh/wan", "fuse.sshfs"),
        ("/mnt/zip/wan", None),
        ("/twice/wan", None),
        ("/host/virtiofs/wan", "virtiofs"),
        ("/host/grpcfuse/wan", "fuse.grpcfuse"),
        ("/host/osxfs/wan", "osxfs"),
        ("/host/fuse.osxfs/wan", "fuse.osxfs"),
        ("/host/vboxsf/wan", "vboxsf"),
        ("/host/vmhgfs/wan", "fuse.vmhgfs-fuse"),
        ("/host/prl_fs/wan", "prl_fs"),
    ],
)
def test_shared_file_systems_are_told_from_local_ones(path: str, kind: str | None) -> None:
    """The innermost and latest mount decides. (Linux, proc(5))"""
    assert shared_filesystem(PurePosixPath(path), MOUNTS) == kind


def test_defaults_of_the_caps_are_those_of_the_settings() -> None:
    """200 credits a day, 3 in flight, 6 submits a minute, no cap per job. (ours)"""
    assert SpendingLimits() == SpendingLimits(None, 200, 3, 6)


def test_refusal_by_a_cap_says_that_nothing_was_charged() -> None:
    """A model must not take it for a failed payment. (ours)"""
    refused = LimitReached("No.", setting="WAN_MCP_MAX_IN_FLIGHT", limit=3, used=3)

    assert (refused.code, refused.charged, refused.retry_safe) == ("limit_reached", "no", False)


def test_advice_of_a_refusal_by_a_cap_may_be_more_exact() -> None:
    """Some caps have another way out than the setting. (ours)"""
    refused = LimitReached("No.", setting="X", limit=3, used=3, next_step="Look at the jobs.")

    assert (refused.next_step, refused.retry_safe) == ("Look at the jobs.", False)


NOON = datetime(2026, 11, 23, 12, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.0, "in 1 s"), (22.1, "in 23 s"), (120.0, "in 120 s"), (121.0, "at 2026-11-23 12:01 UTC")],
)
def test_time_at_which_there_is_room_is_never_told_too_early(seconds: float, told: str) -> None:
    """A call one moment before it would be refused again, in the same words. (ours)"""
    assert str(FreesAt(seconds, NOON)) == f"There is room again {told}."


def test_cap_that_frees_soon_asks_for_the_same_call_again() -> None:
    """Nobody need be asked for what half a minute mends. (ours)"""
    frees_at = FreesAt(23, NOON)
    refused = LimitReached("Too many.", setting="X", limit=6, used=6, frees_at=frees_at)

    assert refused.what == "Too many. There is room again in 23 s. The setting is X."
    assert (refused.retry_safe, refused.next_step) == (True, "Repeat the same call then.")


def test_cap_that_frees_much_later_is_a_matter_for_the_user() -> None:
    """The same call may succeed then; only the operator can make it sooner. (ours)"""
    frees_at = FreesAt(50_000, NOON)
    refused = LimitReached("Too many.", setting="X", limit=200, used=200, frees_at=frees_at)

    assert (refused.retry_safe, refused.wait_seconds) == (False, 50_000)
    assert refused.next_step.startswith("Tell the user, and repeat the same call then.")
    assert refused.next_step.endswith("by raising X.")


def test_ledger_that_is_only_busy_may_be_asked_again() -> None:
    """Nothing was sent, and the wait ends by itself; other failures do not. (ours)"""
    broken, busy = LedgerUnavailable("No."), LedgerUnavailable("No.", transient=True)

    assert (broken.retry_safe, busy.retry_safe) == (False, True)
    assert LedgerUnavailable.retry_safe is False
    assert "WAN_MCP_DATA_DIR" in broken.next_step
    assert busy.next_step == "Call again in a minute."
