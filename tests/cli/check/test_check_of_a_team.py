"""`wan-mcp check` where the ledger is in PostgreSQL, and where people sign in."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import respx

pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")

from tests.cli.check.test_check import BASE, GOOD, PAGE, Case
from tests.ledger.stores import WANTED, PostgresStore, record_in, reported
from tests.postgres.server import Server
from tests.tenants.team import KEY, Blue, operator_of, rows
from tests.transports.sign_in.scene import ISSUER, JWKS, METADATA, RESOURCE, Issuer
from wan_mcp.cli.check import database as looking
from wan_mcp.ledger.postgres import migrations
from wan_mcp.ledger.postgres.connection import connect
from wan_mcp.ledger.postgres.engine import PostgresEngine
from wan_mcp.ledger.postgres.schema import VERSION
from wan_mcp.ledger.record import State
from wan_mcp.models import JobStatus
from wan_mcp.tenants.administration.acts import Operator

pytestmark = pytest.mark.anyio

PASSWORD = "canary-7f3a"
RING = "a YQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="
"""The key ring of `tests.tenants.team`."""
OTHER_RING = RING.replace("a ", "b ", 1)
SECRET = "canary-of-an-issuer"
INTROSPECTION = f"{ISSUER}/introspect"
TOKEN = f"{ISSUER}/token"
BACK = "https://wan.example.com/key/from-4b246bc1a12459de"
REGISTER = (
    "Compare client_id and client_secret_file with the client that you registered there: it has to "
    f"be one for the authorization code flow, with the redirect address {BACK}."
)


class Team:
    """A shell of the operator of a team, where everything is in order until a test changes it.

    Attributes:
        case: the rest of the computer.
        issuer: answers for the authorization server.
    """

    def __init__(self, case: Case, url: str, operator: Operator, issuer: respx.Router) -> None:
        self.case = case
        self.operator = operator
        self.issuer = issuer
        self.keys = Issuer().serve(self.issuer)
        self.ring = case.folder / "ring"
        self.trust = case.folder / "trust.toml"
        self.write(self.ring, RING)
        self.write(self.trust, f'resource = "{RESOURCE}"\n[[issuers]]\nissuer = "{ISSUER}"\n')
        del case.environment["PIXELDOJO_API_KEY"]
        self.set(
            WAN_MCP_LEDGER_URL=url.replace("postgres@", f"postgres:{PASSWORD}@"),
            WAN_MCP_KEY_RING_FILE=str(self.ring),
            WAN_MCP_SIGN_IN=str(self.trust),
        )

    def set(self, **settings: str) -> None:
        """Change settings of the shell."""
        self.case.environment |= settings

    def write(self, file: Path, text: str) -> None:
        """Write a file that nobody else may read."""
        file.write_text(text, "utf-8")
        file.chmod(0o600)

    def asks_the_issuer(self) -> respx.Route:
        """Let the issuer be asked about each token; returns the route for that."""
        client = f'client_id = "wan-mcp"\nclient_secret = "{SECRET}"\nurl = "{INTROSPECTION}"\n'
        text = f"{self.trust.read_text('utf-8')}[issuers.introspection]\n{client}"
        self.write(self.trust, text)
        return self.issuer.post(INTROSPECTION).respond(json={"active": False})

    def signs_in_on_the_page(self, status: int = 400, error: str = "invalid_grant") -> respx.Route:
        """Let people sign in on the page for keys; returns the route at which codes are exchanged.

        Args:
            status, error: how the issuer refuses a code.
        """
        secret = self.case.folder / "secret"
        self.write(secret, f"{SECRET}\n")
        text = f'client_id = "wan-mcp-keys"\nclient_secret_file = "{secret}"\n'
        self.write(self.trust, f"{self.trust.read_text('utf-8')}[issuers.key_page]\n{text}")
        self.set(WAN_MCP_PERSONAL_KEYS="on")
        places = {"authorization_endpoint": f"{ISSUER}/authorize", "token_endpoint": TOKEN}
        self.issuer.get(METADATA).respond(json=Issuer().metadata() | places)
        return self.issuer.post(TOKEN).respond(status, json={"error": error})


@pytest.fixture
def team(case: Case, database: str) -> Iterator[Team]:
    with operator_of(database) as operator, respx.mock(assert_all_called=False) as network:
        Blue(operator)
        yield Team(case, database, operator, network)


async def test_a_team_in_order_needs_no_key_in_the_settings(team: Team) -> None:
    """The keys are in the database; one in the settings is not used (ours)."""
    team.set(PIXELDOJO_API_KEY=GOOD)
    code = await team.case.run()

    assert code == 0, team.case.seen
    assert "PostgreSQL 1" in team.case.line("database")
    assert f"have format {VERSION}, as this program, and can be written; 0 jobs." in (
        team.case.line("ledger")
    )
    assert team.case.line("key-ring").endswith(
        "It opens every PixelDojo key that is stored (1 wallet)."
    )
    assert team.case.line("sign-in").endswith(
        f"People sign in at {RESOURCE} with tokens of 1 issuer, or of wan-mcp."
    )
    assert team.case.line("issuer").endswith(f"{ISSUER} answers, and its keys can be used.")
    assert "\nok     api " in team.case.seen
    assert "key " not in [line[7:].split("  ")[0] for line in team.case.seen.splitlines()]
    assert not team.case.jobs.called
    for secret in (PASSWORD, KEY, GOOD, RING.split()[1], "host="):
        assert secret not in team.case.seen


async def test_own_tokens_alone_need_no_issuer(team: Team) -> None:
    team.set(WAN_MCP_SIGN_IN="tokens")

    assert await team.case.run() == 0
    assert team.case.line("sign-in").endswith("People sign in with tokens of wan-mcp.")
    assert not team.keys.called


async def test_servers_that_share_one_key_are_asked_for_it(case: Case, database: str) -> None:
    """Nobody signs in: then the key is in the settings, and its last balance in the ledger."""
    case.environment["WAN_MCP_LEDGER_URL"] = database
    store = PostgresStore(database)
    ledger = store.ledger()
    account = await ledger.account(BASE, GOOD)
    claim = await ledger.claim(account, WANTED, generated_seed=7, estimate=2.0)
    await ledger.commit_sending(claim.record)
    await ledger.accept(claim.record, reported(credits_remaining=87.5))
    await store.end(ledger)

    assert await case.run() == 0
    assert case.line("ledger").endswith("can be written; 1 job (1 not ended).")
    assert "87.5 credits on the account of the key in the settings" in case.line("balance")
    assert case.line("key").startswith("ok")
    del case.environment["PIXELDOJO_API_KEY"]
    assert await case.run() == 1
    assert "No PixelDojo API key was found" in case.seen


def unreachable(team: Team) -> None:
    team.set(WAN_MCP_LEDGER_URL=f"postgresql://me:{PASSWORD}@/x?host=/nowhere")


def unreadable_address(team: Team) -> None:
    team.set(WAN_MCP_LEDGER_URL=f"postgresql://an:{PASSWORD}@[address")


def other_key_ring(team: Team) -> None:
    team.write(team.ring, OTHER_RING)


def bad_key_ring(team: Team) -> None:
    team.write(team.ring, f"a {PASSWORD}")


def no_key_ring(team: Team) -> None:
    del team.case.environment["WAN_MCP_KEY_RING_FILE"]


def no_database(team: Team) -> None:
    del team.case.environment["WAN_MCP_LEDGER_URL"]


def nobody_signs_in(team: Team) -> None:
    del team.case.environment["WAN_MCP_SIGN_IN"]
    team.set(WAN_MCP_PERSONAL_KEYS="on", PIXELDOJO_API_KEY=GOOD)


def no_file_about_issuers(team: Team) -> None:
    team.trust.unlink()


def bad_file_about_issuers(team: Team) -> None:
    team.write(team.trust, f'resource = "{RESOURCE}"\nclient_secret = "{PASSWORD}"\n')


def silent_issuer(team: Team) -> None:
    other_place = f"{ISSUER}/.well-known/oauth-authorization-server"
    for place in (METADATA, other_place):
        team.issuer.get(place).mock(side_effect=httpx.ConnectError("no route"))


def issuer_without_keys(team: Team) -> None:
    team.keys.side_effect = None
    team.keys.respond(json={"keys": []})


def issuer_with_an_error(team: Team) -> None:
    team.issuer.get(JWKS).respond(503)


def wrong_secret(team: Team) -> None:
    team.asks_the_issuer().respond(401)


def no_secret_of_the_page(team: Team) -> None:
    team.signs_in_on_the_page()
    (team.case.folder / "secret").unlink()


def unknown_client_of_the_page(team: Team) -> None:
    team.signs_in_on_the_page(401, "invalid_client")


def no_place_to_sign_in(team: Team) -> None:
    team.signs_in_on_the_page()
    team.issuer.get(METADATA).respond(json=Issuer().metadata())


def no_pkce(team: Team) -> None:
    team.signs_in_on_the_page()
    places = {"authorization_endpoint": f"{ISSUER}/authorize", "token_endpoint": TOKEN}
    known = {"code_challenge_methods_supported": ["plain"]}
    team.issuer.get(METADATA).respond(json=Issuer().metadata() | places | known)


def codes_cannot_be_exchanged(team: Team) -> None:
    team.signs_in_on_the_page(503)


def gives_tokens_for_nothing(team: Team) -> None:
    team.signs_in_on_the_page().respond(json={"access_token": "x", "token_type": "Bearer"})


def believes_everything(team: Team) -> None:
    said = {"active": True, "sub": "x", "aud": RESOURCE, "exp": 4e9, "scope": "videos:make"}
    team.asks_the_issuer().respond(json=said)


ROWS = [
    (unreachable, "database", "cannot be reached. Run this again in a minute."),
    (unreadable_address, "database", "is not the address of a PostgreSQL database. Set WAN_MCP"),
    (other_key_ring, "key-ring", "does not open the keys of 1 wallet of 1: blue wallet (it was"),
    (bad_key_ring, "key-ring", "WAN_MCP_KEY_RING: the key on line 1 is not"),
    (no_key_ring, "sign-in", "only where WAN_MCP_KEY_RING_FILE is set too. Correct it"),
    (no_database, "sign-in", "only where WAN_MCP_LEDGER_URL is set too. Correct it"),
    (nobody_signs_in, "sign-in", "users have keys of their own only where WAN_MCP_SIGN_IN is set"),
    (no_file_about_issuers, "sign-in", "WAN_MCP_SIGN_IN: the file cannot be read (No such file"),
    (bad_file_about_issuers, "sign-in", "WAN_MCP_SIGN_IN: issuers: Field required"),
    (silent_issuer, "issuer", f"{ISSUER} cannot be reached. Compare the address"),
    (issuer_without_keys, "issuer", f"{ISSUER} shows no keys that can be used. Compare"),
    (issuer_with_an_error, "issuer", f"{ISSUER} answers with status 503. Compare"),
    (wrong_secret, "issuer", f"{ISSUER} answers with status 401. Check client_id and client_s"),
    (believes_everything, "issuer", f"{ISSUER} accepts an invented token. Take"),
    (no_secret_of_the_page, "sign-in", "key_page.client_secret_file: the file cannot be read (No"),
]


NOBODY = f"Nobody can sign in on the page for keys: {ISSUER}"
PAGE_ROWS = [
    (unknown_client_of_the_page, f"{NOBODY} answers invalid_client. {REGISTER}"),
    (no_place_to_sign_in, f"{NOBODY} has metadata without a usable authorization_endpoint. Comp"),
    (no_pkce, f"{NOBODY} has metadata by which it does not know PKCE with S256. Compare"),
    (codes_cannot_be_exchanged, f"{NOBODY} answers with status 503. Compare the address"),
    (gives_tokens_for_nothing, f"{ISSUER} gives a token for an invented code. Take it out of"),
]


@pytest.mark.parametrize(("change", "text"), PAGE_ROWS)
async def test_issuer_at_which_nobody_can_sign_in_on_the_page_is_named(
    team: Team, change: Callable[[Team], object], text: str
) -> None:
    """Its keys can be used all the same, so it has two lines (ours)."""
    change(team)

    assert await team.case.run() == 1
    assert f"{ISSUER} answers, and its keys can be used." in team.case.seen
    [line] = [each for each in team.case.seen.splitlines() if text in each]
    assert line.startswith("broken issuer")
    assert SECRET not in team.case.seen


@pytest.mark.parametrize("error", ["invalid_grant", "invalid_request"])
async def test_client_of_the_page_is_tried_with_a_code_that_nobody_made(
    team: Team, error: str
) -> None:
    """It knows the client if nothing but the code is wrong (documented: RFC 6749)."""
    asked = team.signs_in_on_the_page(error=error)
    code = await team.case.run()
    found = (
        f"{ISSUER} knows the client with which people sign in on the page for keys; its redirect "
        f"address has to be {BACK}."
    )
    [line] = [each for each in team.case.seen.splitlines() if found in each]
    team.set(WAN_MCP_PERSONAL_KEYS="off")
    await team.case.run()

    assert code == 0, team.case.seen
    assert line.startswith("ok")
    assert b"code=wan-mcp-check&" in asked.calls.last.request.content
    assert f"{found} Set WAN_MCP_PERSONAL_KEYS=on" in team.case.seen


@pytest.mark.parametrize(("change", "check", "text"), ROWS)
async def test_each_part_of_a_team_that_can_be_wrong_has_its_line(
    team: Team, change: Callable[[Team], object], check: str, text: str
) -> None:
    """Each is broken, and gives the exit code 1; no line has a secret (ours)."""
    change(team)

    assert await team.case.run() == 1
    assert team.case.line(check).startswith("broken")
    assert text in team.case.line(check)
    for secret in (PASSWORD, KEY, SECRET):
        assert secret not in team.case.seen


async def test_an_issuer_that_is_asked_about_tokens_is_tried_with_one_that_nobody_made(
    team: Team,
) -> None:
    asked = team.asks_the_issuer()

    assert await team.case.run() == 0
    assert f"{ISSUER} answers, and what it says about tokens can be used." in team.case.seen
    assert asked.calls.last.request.content.startswith(b"token=wan-mcp-check&")


async def test_more_wallets_than_anybody_reads_are_counted(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "MOST_NAMED", 0)
    other_key_ring(team)
    await team.case.run()

    assert "of 1 wallet of 1: , and 1 more." in team.case.line("key-ring")


OLDER = "UPDATE schema SET version = version - 1"
NEWER = "UPDATE schema SET version = version + 1, min_program = version + 1"
FORMATS = [
    ("DROP TABLE schema", "the database has no ledger yet, and this program has format"),
    (OLDER, f"a ledger of format {VERSION - 1}, and this program has format {VERSION}. Run wan"),
    (NEWER, "was changed by a newer version of this program"),
]


@pytest.mark.parametrize(("change", "text"), FORMATS)
async def test_tables_of_another_version_are_named_with_the_way_out(
    case: Case, new_database: Callable[[], str], change: str, text: str
) -> None:
    """As `wan-mcp admin migrate --check` names them (ours)."""
    case.environment["WAN_MCP_LEDGER_URL"] = new_database()
    with connect(case.environment["WAN_MCP_LEDGER_URL"]) as link:
        migrations.migrate(link)
        rows(link, change)

    assert await case.run() == 1
    assert case.line("ledger").startswith("broken")
    assert text in case.line("ledger")


async def test_what_a_migration_has_still_to_remove_is_a_note(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers of this version pay all the same (ours)."""
    monkeypatch.setattr(migrations, "REMOVALS", ((VERSION, ("SELECT 1",)),))

    assert await team.case.run() == 0
    assert team.case.line("ledger").startswith("note")
    assert "Something is left in it that only older versions use." in team.case.seen


@pytest.fixture
def reader(database: str, postgres: Server) -> Iterator[str]:
    """The address of the database for a user who may do everything but change a request."""
    name, place = f"reader_{os.getpid()}", database.partition("?")[0].rpartition("/")[2]
    with ExitStack() as made:
        postgres.execute(f"CREATE ROLE {name} LOGIN")
        made.callback(postgres.execute, f"DROP ROLE {name}")
        made.callback(postgres.execute, f"DROP OWNED BY {name}", database=place)
        tables = "ALL TABLES IN SCHEMA public"
        postgres.execute(
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {name}",
            f"REVOKE UPDATE ON jobs FROM {name}",
            database=place,
        )
        yield database.replace("postgres@", f"{name}@")


async def test_a_user_who_may_not_write_is_found_before_a_payment_is(
    team: Team, reader: str
) -> None:
    team.set(WAN_MCP_LEDGER_URL=reader)

    assert await team.case.run() == 1
    assert "may not write the table of requests (jobs). Let this user" in team.case.line("ledger")


async def test_a_database_that_takes_no_change_is_found(team: Team, database: str) -> None:
    """As a standby is that somebody took for the primary (ours)."""
    read_only = f"{database}&options=-c%20default_transaction_read_only%3Don"
    team.set(WAN_MCP_LEDGER_URL=read_only)

    assert await team.case.run() == 1
    assert "is a standby that cannot be written" in team.case.line("ledger")


async def test_looking_settles_no_request_and_leaves_nobody_alive(
    team: Team, database: str
) -> None:
    """What dead servers have left is the matter of those that are alive (ours)."""
    store = PostgresStore(database)
    ledger = store.ledger()
    record = await record_in(ledger, State.SENDING)
    await store.end(ledger, killed=True)
    everything = "SELECT handle, state, owner FROM jobs"
    before = rows(team.operator.link, everything)
    await team.case.run()

    assert rows(team.operator.link, everything) == before
    assert before[0][:2] == (record.submission_id, "sending")
    assert rows(team.operator.link, "SELECT COUNT(*) FROM owners WHERE alive_until > 0") == [(0,)]
    assert rows(team.operator.link, "SELECT COUNT(*) FROM audit WHERE actor = 'check'") == [(0,)]


async def test_a_paid_job_on_the_disk_of_this_computer_is_a_note(team: Team, database: str) -> None:
    """A server that starts takes it in (ours)."""
    folder = team.case.folder / "data/ledger"
    store = PostgresStore(database)
    record = await record_in(store.ledger(), State.SENDING)
    with ExitStack() as opening:
        session = PostgresEngine(database, database, None, folder).open(opening)
        assert session.keep(record, reported(JobStatus.RUNNING))
    await team.case.run()
    await store.opened[0].aclose()

    assert team.case.line("ledger").startswith("note")
    assert "1 paid job could not be written to it yet. The next server" in team.case.seen


async def test_without_the_driver_the_extra_is_named(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wan_mcp.cli.admin.database.find_spec", lambda name: None)

    assert await team.case.run() == 1
    assert "The driver of PostgreSQL is not installed. Install it: pip install 'wan-mcp[post" in (
        team.case.line("database")
    )


async def test_an_entry_whose_ledger_is_no_database_is_worth_a_note(team: Team) -> None:
    """And one with the same database is not (ours)."""
    team.case.entry("cursor")
    team.case.entry("windsurf", WAN_MCP_LEDGER_URL=team.case.environment["WAN_MCP_LEDGER_URL"])
    await team.case.run()

    assert team.case.seen.count("entry keeps its jobs in another place than this shell") == 1
    assert PASSWORD not in team.case.seen


async def test_the_page_has_every_line_about_a_team(team: Team) -> None:
    """Somebody looks up the second word of a line there (ours)."""
    await team.case.run()
    table = PAGE.split("## The lines about a team")[1].split("##")[0]
    names = [row.split("`")[1] for row in table.splitlines() if row.startswith("| `")]

    assert names == ["database", "ledger", "key-ring", "sign-in", "issuer"]
    assert set(names) <= {each.check for each in team.case.report.findings}


async def test_the_same_is_said_as_data(team: Team) -> None:
    other_key_ring(team)
    await team.case.run(as_json=True)
    found = {each["check"]: each for each in json.loads(team.case.seen)["findings"]}

    assert found["ledger"]["figures"] == {
        "format": VERSION,
        "format_of_program": VERSION,
        "jobs": 0,
        "live": 0,
        "unknown": 0,
    }
    assert found["key-ring"]["figures"] == {"wallets": 1, "not_opened": ["blue wallet"]}
    assert found["sign-in"]["figures"] == {"resource": RESOURCE, "issuers": [ISSUER]}
    assert PASSWORD not in team.case.seen
