"""Lines of the log: what no text can do to them, and what each belongs to."""

import json
import logging
from typing import Any

import anyio
import pytest

from wan_mcp.logs.context import ids_of_line, lines_about
from wan_mcp.logs.lines import _Formatter, _JSONFormatter, log_to_stderr

pytestmark = pytest.mark.anyio
SIGNATURE = "SIGNED_7d1e0b93"
FORGED = (
    'x\n2026-11-01 00:00:00,000 ERROR wan_mcp: paid\r\n{"level": "ERROR"}\x1b[2J\x00 \u2028\u00e9'
)


def record(message: str, *, name: str = "wan_mcp.jobs", error: str = "") -> logging.LogRecord:
    given: dict[str, Any] = {"msg": "%s", "args": (message,), "name": name, "levelname": "INFO"}
    try:
        raise ValueError(error)
    except ValueError as exc:
        if error:
            given["exc_info"] = (type(exc), exc, exc.__traceback__)
    return logging.makeLogRecord({**given, "created": 1793491200.25})


def parsed(line: str) -> dict[str, str]:
    assert "\n" not in line
    assert line.isascii()
    assert line.isprintable()
    entry: dict[str, str] = json.loads(line)
    return entry


def test_line_of_json_says_when_where_and_what() -> None:
    """Programs that collect logs read it without a pattern of their own (ours)."""
    assert parsed(_JSONFormatter().format(record("a job"))) == {
        "time": "2026-11-01T00:00:00.250+00:00",
        "level": "INFO",
        "logger": "wan_mcp.jobs",
        "message": "a job",
    }


@pytest.mark.parametrize("where", ["message", "name", "error"])
def test_no_text_can_begin_a_second_line_of_json(where: str) -> None:
    """A caller could forge an entry, or steer the terminal that shows it (ours)."""
    given = {"message": "a", where: FORGED}
    entry = parsed(_JSONFormatter().format(record(**given)))

    assert "ERROR wan_mcp: paid" in entry[{"name": "logger"}.get(where, where)]
    assert entry["level"] == "INFO"


@pytest.mark.parametrize("where", ["message", "error"])
def test_no_text_can_pass_for_another_line_for_people(where: str) -> None:
    """What follows the first line of an entry is indented (ours)."""
    given = {"message": "a", where: FORGED}
    formatter = _Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    first, *rest = formatter.format(record(**given)).split("\n")

    assert first.startswith("20")
    assert rest
    assert all(line.startswith("  ") for line in rest)
    assert "\x1b" not in "".join(rest)
    assert "\r" not in "".join([first, *rest])


@pytest.mark.parametrize("where", ["message", "error"])
def test_line_of_json_keeps_no_query(where: str) -> None:
    """A query may be a signature (ours)."""
    given = {"message": "a", where: f"fetching https://e.example/a.mp4?sig={SIGNATURE}&x"}
    line = _JSONFormatter().format(record(**given))

    assert "https://e.example/a.mp4?..." in line
    assert SIGNATURE not in line


async def test_line_carries_the_ids_of_its_request_and_of_its_payment() -> None:
    """Also in tasks that go on when the request has been answered (ours)."""
    seen: list[dict[str, str]] = []
    go_on = anyio.Event()

    async def payment() -> None:
        with lines_about(submission_id="sub_1"):
            await go_on.wait()
            seen.append(parsed(_JSONFormatter().format(record("paid"))))

    async with anyio.create_task_group() as tasks:
        with lines_about(request_id="r1"):
            tasks.start_soon(payment)
            await anyio.wait_all_tasks_blocked()
        seen.append(parsed(_JSONFormatter().format(record("later"))))
        go_on.set()

    later, paid = seen
    assert (paid["request_id"], paid["submission_id"]) == ("r1", "sub_1")
    assert not {"request_id", "submission_id"} & later.keys()
    assert not ids_of_line()


@pytest.mark.parametrize(("form", "used"), [("text", _Formatter), ("json", _JSONFormatter)])
def test_setting_chooses_the_form(
    form: Any, used: type[logging.Formatter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the root, so that lines of libraries have it, too (ours)."""
    handlers: list[logging.Handler] = []
    monkeypatch.setattr(logging, "basicConfig", lambda level, handlers: taken(handlers))

    def taken(given: list[logging.Handler]) -> None:
        handlers.extend(given)

    log_to_stderr("INFO", form)

    assert [type(handler.formatter) for handler in handlers] == [used]
