"""The error tree: what each error tells of money and of the next step."""

import inspect
import re

import pytest

from wan_mcp import errors
from wan_mcp.errors import (
    Busy,
    CouldNotFindOut,
    NotFound,
    NotSent,
    OutcomeUnknown,
    RateLimited,
    Refused,
    Rejected,
    WanError,
)

TREE = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, WanError) and kind.__module__ == errors.__name__
]
KINDS = [kind for kind in TREE if kind not in (WanError, Refused)]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def drawn() -> dict[str, str]:
    """Each class of the drawing in the module's docstring, with the class it hangs from."""
    path: dict[int, str] = {}
    parents = {}
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"    ([| `-]*)([A-Z]\w+)", line):
            depth = len(found[1]) // 3
            path[depth] = found[2]
            parents[found[2]] = path.get(depth - 1, "Exception")
    return parents


def test_tree_in_the_docstring_is_the_tree() -> None:
    """Whoever adds an error sees where it belongs (ours)."""
    assert drawn() == {kind.__name__: kind.__bases__[0].__name__ for kind in TREE}


@each_kind
def test_every_error_answers_what_charged_repeat_and_next(kind: type[WanError]) -> None:
    """A model reads these and nothing else (ours)."""
    error = kind("It happened.")

    assert (str(error), error.what, error.retry_after) == ("It happened.", "It happened.", None)
    assert error.charged in ("no", "yes", "unknown")
    assert isinstance(error.retry_safe, bool)
    assert error.next_step == kind.advice
    assert kind.advice.endswith(".")
    assert kind.advice.isascii()
    assert len(kind.advice) < 300
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", kind.code)


def test_every_code_is_used_once() -> None:
    """Programs tell the errors apart by it (ours)."""
    assert len({kind.code for kind in KINDS}) == len(KINDS)


@each_kind
def test_only_an_unknown_outcome_leaves_the_charge_open(kind: type[WanError]) -> None:
    """Accepted, not charged, unknown: three answers and no fourth (ours)."""
    assert (kind.charged == "unknown") == issubclass(kind, OutcomeUnknown)
    assert kind.charged != "yes"
    assert not (kind.charged == "unknown" and kind.retry_safe)


def test_repeating_is_called_safe_only_where_it_helps() -> None:
    """A refusal that would come again is not to be hammered; wrong arguments stay wrong (ours)."""
    safe = {kind for kind in KINDS if kind.retry_safe}

    assert safe == {RateLimited, NotSent, CouldNotFindOut, Busy}


def test_id_that_is_not_found_leads_to_the_list_of_ids() -> None:
    """A model that lost the id cannot check it against anything else (ours)."""
    assert "list_jobs shows the ids" in NotFound.advice


def test_unknown_outcome_is_never_called_a_failure() -> None:
    """ "Failed" would make a model try again, and pay again (ours)."""
    assert not re.search(r"fail|error", OutcomeUnknown.advice, re.IGNORECASE)
    assert OutcomeUnknown.advice.startswith("Do not repeat the call")


def test_next_step_can_be_told_more_exactly() -> None:
    """The place that raises may know better than the class (ours)."""
    assert Rejected("x", field="seed", next_step="Do this.").next_step == "Do this."
    assert CouldNotFindOut("x", transient=False, retry_after=3.0).retry_after == 3.0
    assert NotSent("x", transient=False).transient is False
