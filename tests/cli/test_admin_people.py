"""`wan-mcp admin user|team|wallet|token|limits|spend|audit`, as an operator types them."""

import base64
import io
import json
import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wan_mcp.cli.commands import run

pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")

KEY = "pd_canary_5d1f"
"""A key that no output and no file of the database may contain."""


def ring_line(id: str) -> str:
    return f"{id} {base64.b64encode(id.encode().ljust(32, b'-')).decode()}"


class Typed:
    """Types commands at one database, with a key ring in a file."""

    def __init__(
        self,
        url: str,
        folder: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self.ring = folder / "ring"
        self.ring.write_text(ring_line("a"))
        self.ring.chmod(0o600)
        self.environment = {
            "WAN_MCP_LEDGER_URL": url,
            "WAN_MCP_KEY_RING_FILE": str(self.ring),
            "PIXELDOJO_API_BASE": "https://pixeldojo.example/api/v1",
        }
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    def run(self, *words: str, typed: str = "") -> tuple[int, str, str]:
        """Code, output and errors of a command; `typed` is its standard input."""
        errors: list[str] = []

        def report(error: object) -> int:
            errors.append(str(error))
            return 2

        self._monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        code = run(["admin", *words], self.environment, report)
        said = self._capsys.readouterr()
        assert KEY not in said.out + said.err
        return code, said.out, said.err + "".join(errors)

    def done(self, *words: str, typed: str = "") -> str:
        """The output of a command that works."""
        code, out, err = self.run(*words, typed=typed)
        assert (code, err) == (0, "")
        return out

    def data(self, *words: str, typed: str = "") -> Any:
        """The same as data."""
        return json.loads(self.done(*words, "--json", typed=typed))


@pytest.fixture
def admin(
    database: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Typed:
    return Typed(database, tmp_path, capsys, monkeypatch)


PAGE = (Path(__file__).parents[2] / "docs/teams.md").read_text("utf-8")


def lines_of_page(begin: str) -> list[str]:
    """The lines of docs/teams.md that begin so."""
    return [line for line in PAGE.splitlines() if line.startswith(begin)]


def test_operator_goes_from_nothing_to_a_team_as_the_page_says(admin: Typed) -> None:
    """Its commands are typed as they stand there; every list shows what was made (ours)."""
    said = {}
    for line in lines_of_page("wan-mcp admin ")[-5:]:
        command, _, file = line.partition(" < ")
        words = shlex.split(command)[2:]
        said[words[0]] = admin.done(*words, typed=f"{KEY}\n" if file == "key.txt" else "")
    token = said["token"].splitlines()[0]
    nouns = ("user", "team", "wallet", "token", "limits")
    lists = {noun: admin.done(noun, "list") for noun in nouns}

    assert set(said) == set(nouns)
    assert token.startswith("wan_")
    assert lists["user"].splitlines()[1].split()[1:5] == ["Ann", "Lee", "Blue", "blue"]
    assert lists["team"].splitlines()[1].split()[1:] == ["Blue", "1", "blue", "-"]
    assert lists["wallet"].splitlines()[1].split()[:4] == ["blue", "Blue", "-", "sealed"]
    assert lists["limits"].splitlines()[1].endswith("credits-per-day 50, in-flight 2")
    assert token.split("_")[1] in lists["token"]
    assert "her laptop" in lists["token"]
    assert token.rpartition("_")[2] not in "".join(lists.values())
    assert len(admin.done("audit").splitlines()) == len(said) + 1
    assert "Ann Lee" not in admin.done("spend")


@pytest.mark.skipif(os.name != "posix", reason="the line is for a POSIX shell")
def test_line_of_the_page_makes_a_key_ring_that_nobody_else_reads(
    admin: Typed, tmp_path: Path
) -> None:
    [line] = lines_of_page("(umask")
    made = tmp_path / "made"
    subprocess.run(["sh", "-c", line.replace("/etc/wan-mcp/key-ring", str(made))], check=True)
    admin.environment["WAN_MCP_KEY_RING_FILE"] = str(made)

    assert admin.data("wallet", "rotate") == {"sealed_anew": 0, "ring_key": "2026-11"}
    assert made.stat().st_mode & 0o777 == 0o600


def test_key_is_read_from_a_file_too(admin: Typed, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    admin.done("team", "add", "Blue")
    admin.done("wallet", "add", "blue", "--team", "Blue", typed="pd_first")
    admin.done("wallet", "set-key", "blue", "--key-file", str(tmp_path / "key"))
    code, _, err = admin.run("wallet", "add", "second", "--team", "Blue", typed=KEY)

    assert (code, "the same PixelDojo key" in err) == (1, True)


def test_every_list_is_the_same_as_data(admin: Typed) -> None:
    """A deployment reads it with a program (ours)."""
    team = admin.data("team", "add", "Blue", "--issuer", "https://login.example.com")["team"]
    user = admin.data("user", "add", "Ann", "--issuer", "https://x.example", "--subject", "1")[
        "user"
    ]
    wallet = admin.data("wallet", "add", "own", "--user", user, typed=KEY)["wallet"]
    token = admin.data("token", "add", user, "--days", "2", "--read-only")
    limits = admin.data("limits", "set", "--wallet", "own", "--credits-per-job", "2.5")

    assert admin.data("team", "list")["teams"] == [
        {
            "id": team,
            "name": "Blue",
            "issuer": "https://login.example.com",
            "users": 0,
            "wallet": None,
        }
    ]
    assert admin.data("user", "list")["users"] == [
        {
            "id": user,
            "name": "Ann",
            "team": None,
            "issuer": "https://x.example",
            "subject": "1",
            "disabled": False,
            "wallet": "own",
        }
    ]
    assert admin.data("wallet", "list")["wallets"] == [
        {
            "account": wallet,
            "name": "own",
            "team": None,
            "user": "Ann",
            "user_id": user,
            "api_base": "https://pixeldojo.example/api/v1",
            "key": "sealed",
        }
    ]
    [listed] = admin.data("token", "list")["tokens"]
    assert (listed["id"], listed["scopes"]) == (token["id"], "videos:read")
    assert (listed["used_at"], listed["state"]) == (None, "works")
    assert listed["expires_at"][10] == "T"
    assert admin.data("limits", "list")["limits"] == [
        {"kind": "wallet", "id": wallet, "name": "own", **limits}
    ]
    assert admin.data("spend", "--days", "7") == {"days": 7, "spent": []}
    newest = admin.data("audit", "--limit", "1", "--about", wallet)["audit"]
    assert [(entry["action"], entry["result"]) for entry in newest] == [("limits.set", "done")]
    assert newest[0]["actor"].startswith("admin:")


def test_changes_are_made_and_taken_back(admin: Typed) -> None:
    admin.done("team", "add", "Blue")
    user = admin.data("user", "add", "Ann")["user"]
    admin.done("user", "set", user, "--team", "Blue")
    admin.done("user", "set", user, "--no-team", "--force")
    admin.done("user", "set", user, "--team", "Blue")
    admin.done("user", "set", user, "--name", "Anna")
    admin.done("user", "disable", "Anna")
    admin.done("team", "set", "Blue", "--issuer", "https://login.example.com")
    [listed] = admin.data("user", "list")["users"]
    assert (listed["name"], listed["team"], listed["disabled"]) == ("Anna", "Blue", True)
    token = admin.data("token", "add", user)
    admin.done("token", "revoke", token["id"])
    admin.done("user", "enable", user)
    admin.done("user", "set", user, "--no-team")
    admin.done("team", "set", "Blue", "--no-issuer")
    admin.done("limits", "set", "--user", user, "--in-flight", "none", "--credits-per-day", "1")
    admin.done("wallet", "add", "own", "--user", user, typed=KEY)
    admin.done("wallet", "remove", "own")
    admin.ring.write_text(ring_line("b"))

    assert admin.data("wallet", "rotate") == {"sealed_anew": 0, "ring_key": "b"}
    assert admin.data("token", "list")["tokens"][0]["state"] == "revoked"
    assert admin.data("wallet", "list")["wallets"][0]["key"] == "removed"
    [listed] = admin.data("user", "list")["users"]
    assert (listed["team"], listed["disabled"]) == (None, False)


def test_key_ring_is_rotated_by_a_command(admin: Typed) -> None:
    user = admin.data("user", "add", "Ann")["user"]
    admin.done("wallet", "add", "own", "--user", user, typed=KEY)
    admin.ring.write_text(f"{ring_line('b')}\n{ring_line('a')}")
    assert "older key" in admin.done("wallet", "list")
    assert admin.done("wallet", "rotate").startswith("1 key sealed anew")
    admin.ring.write_text(ring_line("a"))
    code, _, err = admin.run("wallet", "rotate")

    assert (code, "the key b" in err) == (1, True)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("user", "set", "Eve", "--team", "Blue"), 'There is no user "Eve".'),
        (("wallet", "add", "own", "--user", "Eve"), 'There is no user "Eve".'),
        (("wallet", "set-key", "own", "--key-file", "/nowhere/key"), "No such file"),
        (("limits", "set", "--user", "Eve"), "No limit was given."),
        (("user", "add", "A\nb"), "A name is one line"),
        (("user", "add", "A\udcff"), "A name is one line"),
        (("token", "revoke", "x' OR 'a'='a"), "There is no token"),
    ],
)
def test_refusal_is_one_line_and_changes_nothing(
    admin: Typed, words: tuple[str, ...], reason: str
) -> None:
    code, out, err = admin.run(*words, typed=KEY)

    assert (code, out) == (1, "")
    assert reason in err
    assert err.endswith("Nothing was changed.\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ("user",),
        ("user", "add"),
        ("wallet", "add", "own", "--user", "Ann", KEY),
        ("wallet", "add", "own", "--user", "Ann", f"--key={KEY}"),
        ("wallet", "add", "own", "--user", "Ann", "--team", "Blue"),
        ("limits", "set", "--user", "Ann", "--credits-per-day", "-1"),
        ("limits", "set", "--user", "Ann", "--credits-per-day", "nan"),
        ("limits", "set", "--user", "Ann", "--in-flight", "1.5"),
        ("limits", "set", "--in-flight", "1"),
        ("token", "add", "Ann", "--days", "soon"),
    ],
)
def test_what_is_typed_wrong_is_refused_before_anything_happens(
    admin: Typed, words: tuple[str, ...]
) -> None:
    """A key in an argument is in the history of the shell; it is not repeated either (ours)."""
    code, out, err = admin.run(*words)

    assert (code, out) == (2, "")
    assert KEY not in err


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        ("WAN_MCP_KEY_RING_FILE", None, "WAN_MCP_KEY_RING_FILE is not set"),
        ("WAN_MCP_LEDGER_URL", None, "WAN_MCP_LEDGER_URL is not set"),
        ("WAN_MCP_LEDGER_URL", "postgresql:///x?host=/nowhere", "cannot be reached"),
    ],
)
def test_missing_part_is_named(admin: Typed, setting: str, value: str | None, reason: str) -> None:
    del admin.environment[setting]
    admin.environment |= {} if value is None else {setting: value}
    code, out, err = admin.run("wallet", "rotate")

    assert (code, out) == (1, "")
    assert reason in err


def test_bad_key_ring_is_named_without_its_content(admin: Typed) -> None:
    admin.ring.write_text(f"a {KEY}")
    code, _, err = admin.run("wallet", "rotate")

    assert (code, "line 1" in err) == (1, True)


def test_ledger_of_an_older_format_is_to_be_migrated_first(
    admin: Typed, new_database: Callable[[], str]
) -> None:
    admin.environment["WAN_MCP_LEDGER_URL"] = new_database()
    code, _, err = admin.run("user", "list")

    assert (code, "wan-mcp admin migrate" in err) == (1, True)
