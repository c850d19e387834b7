"""How records are read from the rows of a store."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from tests.ledger.stores import SQLiteStore, claimed, reported, sent, wanted
from wan_mcp.ledger import rows
from wan_mcp.ledger.record import Record
from wan_mcp.models import JobStatus

pytestmark = pytest.mark.anyio


async def test_a_submit_reads_no_record_that_could_not_be_its_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or every job would be started more slowly than the one before."""
    store = SQLiteStore(tmp_path)
    ledger = store.ledger()
    for number in range(5):
        record = await sent(ledger, await claimed(ledger, wanted(number)))
        await ledger.accept(record, reported(JobStatus.COMPLETED, job_id=f"job-{number}"))
        store.now += timedelta(minutes=16)
    read: list[str] = []
    record_of = rows._record

    def noted(row: Sequence[object]) -> Record:
        record = record_of(row)
        read.append(record.submission_id)
        return record

    monkeypatch.setattr(rows, "_record", noted)
    new = await claimed(ledger, wanted(5))
    await ledger.accept(await sent(ledger, new), reported(job_id="job-5"))

    assert set(read) <= {new.submission_id}
    await ledger.aclose()


async def test_a_submit_never_reads_its_own_record_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What this process has just written it knows, and the fence guards it. (ours)"""
    ledger = SQLiteStore(tmp_path).ledger()
    read: list[Record] = []
    record_of = rows._record

    def noted(row: Sequence[object]) -> Record:
        read.append(record_of(row))
        return read[-1]

    monkeypatch.setattr(rows, "_record", noted)
    record = await claimed(ledger)
    await ledger.commit_sending(record)
    await ledger.accept(record, reported())

    assert read == []
    await ledger.aclose()
