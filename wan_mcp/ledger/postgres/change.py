"""The changes of one transaction."""

from dataclasses import dataclass, field

from wan_mcp.ledger.postgres.connection import Part, Rows
from wan_mcp.ledger.session import Values

_FENCE, _CREATED = "_before", "created_at"
"""The names among the values of a statement that mark an update of a record, and a new record."""


@dataclass
class Change:
    """What a transaction has changed so far, and what it knows.

    Attributes:
        account: whose records it changes; None for what processes share while they wait.
        writes: whether it changes anything.
        later: what is sent together with the next statement, or with the COMMIT.
        fence: the text of the error if an update in `later` finds no record.
        known: the answers to reads that were asked ahead, as long as they are still right.
        alive: the processes that are alive, once they are known.
        jobs: the last values of each record, by its submission id and then by field.
        creates: whether one of the records is new.
        is_news: whether somebody may wait for it.
    """

    account: str | None
    writes: bool = False
    later: list[Part] = field(default_factory=list)
    fence: str | None = None
    known: dict[object, Rows] = field(default_factory=dict)
    alive: frozenset[str] | None = None
    jobs: dict[str, dict[str, object]] = field(default_factory=dict)
    creates: bool = False
    is_news: bool = False

    def note(self, values: Values, *, changes_jobs: bool) -> None:
        """Note a statement that changes something."""
        self.writes = True
        self.known.clear()
        self.is_news |= changes_jobs
        is_new = changes_jobs and _CREATED in values
        self.creates |= is_new
        # A queued request whose turn has come gets a new date and keeps its id.
        id = values.get("submission_id") if is_new else None
        if id := id or values.get(f"submission_id{_FENCE}"):
            fields = {n: value for n, value in values.items() if not n.endswith(_FENCE)}
            self.jobs.setdefault(str(id), {}).update(fields)
