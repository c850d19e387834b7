"""Paid jobs that could not be written to the ledger, each in a small file beside its folder.

A server that loses its ledger may have a paid request under way. It keeps the job here, and the
next server that opens the right ledger takes it in.
"""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from wan_mcp.ledger.record import Record
from wan_mcp.ledger.session import KeptJob
from wan_mcp.ledger.sqlite.folder import give_to_owner_of
from wan_mcp.models import Job

logger = logging.getLogger(__name__)


class KeptJobs:
    """The files of one ledger.

    Args:
        folder: the ledger's own. The files lie in a folder beside it.
    """

    def __init__(self, folder: Path) -> None:
        self._ledger = folder
        self.folder = folder.with_name(f"{folder.name}-paid-jobs")
        self._passed_over: set[Path] = set()

    def keep(self, record: Record, job: Job, ledger: str) -> bool:
        """Write a paid job to the disk. Returns whether that was possible.

        Args:
            ledger: the id of its ledger, see `ledger_id`.
        """
        try:
            path = self._write(record, job, ledger)
        except OSError as exc:
            logger.error("job %s could not be kept on disk: %s", job.job_id, exc)
            return False
        logger.warning("job %s is kept in %s until the ledger can take it", job.job_id, path)
        return True

    def _write(self, record: Record, job: Job, ledger: str) -> Path:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.folder / f"{record.submission_id}.json"
        part = path.with_suffix(f".{os.getpid()}")
        kept = {"record": record.model_dump(mode="json"), "job": job.model_dump(mode="json")}
        content = json.dumps({"ledger": ledger, **kept})
        file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(file, "w") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        part.replace(path)
        with suppress(OSError):  # the ledger's folder may be gone, and the job is kept
            give_to_owner_of(self._ledger, self.folder, path)
        return path

    def all(self, ledger: str) -> Iterator[KeptJob]:
        """What is kept now for a ledger. A file that cannot be read stays where it is.

        So does a file of another ledger: there the account has another name, so nobody would find
        the job here.
        """
        try:
            paths = sorted(self.folder.glob("*.json"))
        except OSError:
            return
        for path in paths:
            try:
                content = json.loads(path.read_bytes())
                if content["ledger"] != ledger:
                    self._pass_over(path)
                    continue
                record = Record.model_validate(content["record"])
                job = Job.model_validate(content["job"])
            except (OSError, ValueError, KeyError, TypeError, ValidationError):
                logger.error("a paid job is kept in %s, and it cannot be read", path)
                continue
            yield KeptJob(record, job, partial(_forget, path))

    def remove(self, record: Record) -> None:
        """Remove the files of a forgotten request, also those of an attempt that was cut off.

        Its job is in the ledger. Without a job id in the ledger, such a file may name a paid job
        that nothing else names, so it stays.

        Raises:
            OSError: one of them cannot be removed.
        """
        if record.job_id is not None:
            for path in list(self.folder.glob(f"{record.submission_id}.*")):
                path.unlink(missing_ok=True)

    def _pass_over(self, path: Path) -> None:
        if path not in self._passed_over:  # logged once: they are found every half minute
            self._passed_over.add(path)
            logger.warning("the paid job in %s belongs to another ledger: it stays there", path)


def _forget(path: Path) -> None:
    """A file that cannot be removed now is removed later: its job is in the ledger."""
    try:
        path.unlink(missing_ok=True)
    except OSError as exc:
        logger.warning("%s is in the ledger and could not be removed yet: %s", path, exc)
