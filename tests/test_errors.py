"""The error tree: what each error says about the charge and the next step."""

import ast
import importlib
import inspect
import pkgutil
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import wan_mcp
from wan_mcp import errors
from wan_mcp.errors import (
    SOON_SECONDS,
    Busy,
    Code,
    CouldNotFindOut,
    NotFound,
    NotSent,
    OutcomeUnknown,
    RateLimited,
    Refused,
    Rejected,
    WanError,
)
from wan_mcp.inputs.received.own_uploads import NotUploaded, UploadNeeded
from wan_mcp.inputs.verdict import UnusableInput
from wan_mcp.ledger.contract import (
    Fenced,
    LedgerChanged,
    LedgerUnavailable,
    LedgerUnreachable,
    NothingToRead,
    QuotasChanged,
)
from wan_mcp.ledger.spending_limits import FreesAt, LimitReached, NoRoom, PriceRose
from wan_mcp.ledger.sqlite.folder import UnsuitableFolder
from wan_mcp.payments.payment import ServerStops
from wan_mcp.payments.sources import NoVideo
from wan_mcp.pixeldojo.error_statuses import ElsewhereNow, StoppedOnTheWay, UnknownModel
from wan_mcp.surface.answers.failures import defect_result, failure_result
from wan_mcp.surface.answers.team_user import TeamUser, step_for
from wan_mcp.surface.consent import NotConfirmed
from wan_mcp.tenants.seat import NoWallet, WalletClosed

TREE = [
    error_class
    for _, error_class in inspect.getmembers(errors, inspect.isclass)
    if issubclass(error_class, WanError) and error_class.__module__ == errors.__name__
]
CLASSES = [error_class for error_class in TREE if error_class not in (WanError, Refused)]
each_class = pytest.mark.parametrize(
    "error_class", CLASSES, ids=lambda error_class: error_class.__name__
)


def drawn() -> dict[str, str]:
    """Each class of the tree in the module's docstring, with its parent."""
    path: dict[int, str] = {}
    parents = {}
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"    ([| `-]*)([A-Z]\w+)", line):
            depth = len(found[1]) // 3
            path[depth] = found[2]
            parents[found[2]] = path.get(depth - 1, "Exception")
    return parents


def test_tree_in_the_docstring_is_the_tree() -> None:
    """A reader who adds an error sees where it belongs (ours)."""
    assert drawn() == {
        error_class.__name__: error_class.__bases__[0].__name__ for error_class in TREE
    }


@each_class
def test_every_error_answers_what_charged_repeat_and_next(error_class: type[WanError]) -> None:
    """A model reads only these (ours)."""
    error = error_class("It happened.")

    assert (str(error), error.what, error.retry_after) == ("It happened.", "It happened.", None)
    assert error.charged in ("no", "yes", "unknown")
    assert isinstance(error.retry_safe, bool)
    assert error.next_step == error_class.advice
    assert error_class.advice.endswith(".")
    assert error_class.advice.isascii()
    assert len(error_class.advice) < 300
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", error_class.code)


def test_every_code_is_used_once() -> None:
    """Programs distinguish the errors by it (ours)."""
    assert len({error_class.code for error_class in CLASSES}) == len(CLASSES)


def test_every_code_that_is_produced_is_published_and_the_other_way_round() -> None:
    """A program that knows the published ones knows all that can come (ours)."""
    made = raised_classes()
    defects = {defect_result("tool", paid=paid).code for paid in (False, True)}
    produced = {error_class.code for error_class in every_error() if made & lineage(error_class)}

    assert {type(error_class.code) for error_class in every_error()} == {Code}
    assert defects == {Code.INTERNAL_ERROR}
    assert produced | defects == set(Code)


def raised_classes() -> set[str]:
    """The names of all classes of which some module of the program makes an instance."""
    root = Path(wan_mcp.__file__).parent
    trees = [ast.parse(path.read_text("utf-8")) for path in root.rglob("*.py")]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {ast.unparse(call.func).rpartition(".")[2] for call in calls}


def lineage(error_class: type[WanError]) -> set[str]:
    """The name of a class, and those of the classes made from it."""
    below = (lineage(child) for child in error_class.__subclasses__())
    return {error_class.__name__}.union(*below)


@pytest.mark.parametrize("code", Code)
def test_every_code_is_explained_in_one_sentence(code: Code) -> None:
    """In plain words, and not by itself (ours)."""
    assert code.explanation[0].isupper()
    assert code.explanation.endswith(".")
    assert code.explanation.isascii()
    assert 20 < len(code.explanation) < 120
    assert str(code).replace("_", " ") not in code.explanation.lower()


@each_class
def test_only_an_unknown_outcome_leaves_the_charge_open(error_class: type[WanError]) -> None:
    """There are three answers: accepted, not charged, unknown (docs/promises.md rule 6)."""
    assert (error_class.charged == "unknown") == issubclass(error_class, OutcomeUnknown)
    assert error_class.charged != "yes"
    assert not (error_class.charged == "unknown" and error_class.retry_safe)


def test_repeating_is_called_safe_only_where_it_helps() -> None:
    """A call that would be refused again must not be repeated (ours)."""
    safe = {error_class for error_class in CLASSES if error_class.retry_safe}

    assert safe == {RateLimited, NotSent, CouldNotFindOut, Busy}


def test_repeating_is_not_called_safe_when_it_makes_no_sense_within_two_minutes() -> None:
    """A loop that waits for what takes hours spins, and a person should decide (ours)."""
    soon, late = RateLimited("x", retry_after=119.2), RateLimited("x", retry_after=121)

    assert (soon.retry_safe, soon.wait_seconds) == (True, 120)
    assert (late.retry_safe, late.wait_seconds) == (False, 121)
    for for_good in (NotSent("x", transient=False), CouldNotFindOut("x", transient=False)):
        assert (for_good.retry_safe, for_good.wait_seconds) == (False, None)


@each_class
def test_error_that_may_be_repeated_says_in_how_many_seconds(error_class: type[WanError]) -> None:
    """A program cannot read "in a minute" out of a sentence (ours)."""
    error = error_class("x")

    assert (error.wait_seconds is None) == (not error.retry_safe)
    assert error.wait_seconds is None or 1 <= error.wait_seconds <= 120


def every_error() -> set[type[WanError]]:
    """All classes of all rooms."""
    for module in pkgutil.walk_packages(wan_mcp.__path__, "wan_mcp."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found, known = {WanError}, set[type[WanError]]()
    while found > known:
        known = set(found)
        found |= {sub for one in known for sub in one.__subclasses__()}
    # Only a class with a code is raised; the others group them.
    return {one for one in found if hasattr(one, "code") and one.__module__.startswith("wan_mcp.")}


MONTH = FreesAt(2_592_000, datetime(2026, 12, 23, tzinfo=UTC))
LIMIT: dict[str, Any] = {"setting": "WAN_MCP_X", "limit": 1, "used": 1}
ANSWERS: list[tuple[WanError, str, int | None]] = [
    (errors.InvalidArguments("x"), "no", None),
    (UploadNeeded("x"), "no", None),
    (errors.NoKey("x"), "no", None),
    (NoWallet("x"), "no", None),
    (WalletClosed("x"), "no", None),
    (errors.Unauthorized("x"), "no", None),
    (errors.OutOfCredits("x"), "no", None),
    (errors.NotAllowed("x"), "no", None),
    (StoppedOnTheWay("x"), "no", None),
    (NotFound("x"), "no", None),
    (UnknownModel("x"), "no", None),
    (ElsewhereNow("x"), "no", None),
    (NotUploaded("x"), "no", None),
    (Rejected("x"), "no", None),
    (UnusableInput("x"), "no", None),
    (NotConfirmed("x"), "no", None),
    (LedgerUnavailable("x"), "no", None),
    (LedgerUnavailable("x", transient=True), "no", 60),
    (NothingToRead("x"), "no", None),
    (NothingToRead("x", transient=True), "no", 60),
    (LedgerUnreachable("x"), "no", 60),
    (QuotasChanged(), "no", 60),
    (LedgerChanged("x", next_step="Look."), "no", None),
    (UnsuitableFolder("x"), "no", None),
    (NoVideo("x"), "no", None),
    (LimitReached("x", **LIMIT), "no", None),
    (LimitReached("x", **LIMIT, frees_at=replace(MONTH, seconds=7.5)), "no", 8),
    (LimitReached("x", **LIMIT, frees_at=MONTH), "no", 2_592_000),
    (NoRoom("x", **LIMIT, frees_at=replace(MONTH, seconds=7.5)), "no", 8),
    (PriceRose("x"), "no", 1),
    (RateLimited("x"), "no", 60),
    (RateLimited("x", retry_after=0), "no", 1),
    (RateLimited("x", retry_after=300), "no", 300),
    (NotSent("x"), "no", 10),
    (NotSent("x", transient=False), "no", None),
    (ServerStops("x"), "no", 5),
    (CouldNotFindOut("x"), "no", 60),
    (CouldNotFindOut("x", retry_after=300), "no", 300),
    (CouldNotFindOut("x", transient=False), "no", None),
    (Busy("x", retry_after=5), "no", 5),
    (OutcomeUnknown("x"), "unknown", None),
    (Fenced("x"), "unknown", None),
]
"""Each error with what it says of the charge, and the seconds after which it may be repeated."""


def test_no_error_of_any_room_is_missing_in_the_table() -> None:
    """A new error is decided about, and not only inherited (ours)."""
    assert {type(error) for error, *_ in ANSWERS} == every_error()


@pytest.mark.parametrize(("error", "charged", "seconds"), ANSWERS, ids=lambda v: type(v).__name__)
def test_every_error_says_whether_it_was_charged_and_when_it_may_be_repeated(
    error: WanError, charged: str, seconds: int | None
) -> None:
    """Only what helps within two minutes and cannot be paid twice is safe, with its time (ours)."""
    result = failure_result(error)
    soon = seconds is not None and seconds <= SOON_SECONDS

    assert (result.charged, result.retry_after_seconds) == (charged, seconds)
    assert result.retry_safe is soon
    assert not (soon and charged != "no")
    assert (result.message, result.next) == (error.what, error.next_step)
    assert result.next.endswith(".")


TEAM_USERS = [TeamUser(), TeamUser(True), TeamUser(True, "https://team.example/key")]
FOR_OPERATORS = re.compile("WAN_MCP_|PIXELDOJO_|AWS_|[Rr]estart|pip install|proxy|configuration")
"""What only whoever runs a server can set or do."""


@pytest.mark.parametrize("user", TEAM_USERS, ids=["team pays", "own key", "own key and page"])
@pytest.mark.parametrize("error", [each for each, *_ in ANSWERS], ids=lambda v: type(v).__name__)
def test_where_people_sign_in_no_next_step_of_any_error_takes_the_rights_of_the_operator(
    error: WanError, user: TeamUser
) -> None:
    """They can set, restart and install nothing there; a limit may be named (ours)."""
    step = step_for(user, error)

    assert not FOR_OPERATORS.search(step) or isinstance(error, LimitReached)
    assert user.has_account or "on pixeldojo.ai" not in step or "operator" in step
    assert step_for(None, error) == error.next_step


def next_steps_of_code() -> set[tuple[str, str]]:
    """Each text of a next step in the code, with its module, that says nothing of who can do it."""
    root, found = Path(wan_mcp.__file__).parent, set()
    for path in root.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        module = ".".join(path.relative_to(root).with_suffix("").parts)
        known = {
            name: ast.unparse(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign)
            for name in map(ast.unparse, node.targets)
        }
        for call in ast.walk(tree):
            given = {each.arg: each.value for each in getattr(call, "keywords", [])}
            if "next_step" in given and "step_by" not in given:
                step = ast.unparse(given["next_step"])
                found.add((module, known.get(step, step)))
    return found


UNMET = ("inputs.local", "ledger", "storage.lending", "cli")
"""Rooms whose next steps no user of a team meets: over HTTP no file of the server's computer is an
input and nothing is lent, and the ledger of a team says itself what is for its operator."""


def test_next_step_in_the_code_that_takes_the_rights_of_the_operator_says_so() -> None:
    """Without that, a user of a team's server would be sent to settings (ours)."""
    steps = next_steps_of_code()
    wrong = {each for each in steps if FOR_OPERATORS.search(each[1]) and "operator" not in each[1]}

    assert len(steps) > 20
    assert {each for each in wrong if not each[0].startswith(UNMET)} == set()


@pytest.mark.parametrize("paid", [False, True])
def test_defect_of_a_paid_tool_is_not_repeated_and_that_of_a_free_one_is(paid: bool) -> None:
    """Nobody knows how far a paid call came before its defect (ours)."""
    result = defect_result("tool", paid=paid)

    assert (result.charged, result.retry_safe) == (("unknown", False) if paid else ("no", True))
    assert (result.retry_after_seconds is None) == paid


def test_id_that_is_not_found_leads_to_the_list_of_ids() -> None:
    """A model that lost the id cannot check it against anything else (ours)."""
    assert "list_jobs shows the ids" in NotFound.advice


def test_unknown_outcome_is_never_called_a_failure() -> None:
    """ "Failed" would make a model try again, and pay again (ours)."""
    assert not re.search(r"fail|error", OutcomeUnknown.advice, re.IGNORECASE)
    assert OutcomeUnknown.advice.startswith("Do not repeat the call")


def test_next_step_can_be_more_specific_than_the_class() -> None:
    """The code that raises the error may know more than the class (ours)."""
    assert Rejected("x", field="seed", next_step="Do this.").next_step == "Do this."
    assert CouldNotFindOut("x", transient=False, retry_after=3.0).retry_after == 3.0
    assert NotSent("x", transient=False).transient is False
