"""The make-believe vendor's books: keys, credits, jobs, charges. No I/O; the clock is given."""

import secrets
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from wan_mcp.sandbox.vendor.schema import body_schema, complaints
from wan_mcp.sandbox.vendor.terms import Clock, Terms

FAILING = "/media/no-person.mp4"
ENDLESS = "/media/endless.mp4"


class Refusal(Exception):
    """The vendor says no: an HTTP status, the vendor's code and a sentence; nothing is charged."""

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})


@dataclass(frozen=True)
class Charge:
    """Money taken: the judge of every test about paying twice."""

    key: str
    job_id: str
    amount: float
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """A paid job; what became of it follows from the time (see `Vendor.status`)."""

    id: str
    key: str
    body: Mapping[str, Any]
    cost: float
    created: float
    """On the vendor's clock, in seconds."""

    @property
    def clip(self) -> str:
        """The path of its video, by which the samples are known."""
        return urlsplit(str(self.body["video"])).path


@dataclass
class Film:
    """A job's own film: both fields stay empty until it has ended, then one of them is set."""

    content: bytes = b""
    error: str = ""
    """Why there is none, as a sentence."""

    @property
    def ended(self) -> bool:
        return bool(self.content or self.error)


@dataclass
class _Account:
    credits: float
    recent_requests: deque[float] = field(default_factory=deque)


class Vendor:
    """PixelDojo without the network: who has which credits, which jobs exist, what was charged."""

    def __init__(self, terms: Terms, *, clock: Clock, epoch: float) -> None:
        """`epoch` is the Unix time at which `clock` was read first; the two move together."""
        self.terms = terms
        self.origin = ""
        """Where its pages are, as "http://127.0.0.1:PORT"; known once it listens."""
        self.charges: list[Charge] = []
        self.jobs: dict[str, Job] = {}
        self.films: dict[str, Film] = {}
        """By job; the others bring the sample."""
        self.begin_film: Callable[[Job], Film | None] = lambda _: None
        """The studio's, if there is one; None when the job gets no film of its own."""
        self._accounts: dict[str, _Account] = {}
        self._clock = clock
        self._epoch_offset = epoch - clock()

    def open_account(self, key: str | None = None, *, credits: float | None = None) -> str:
        """A key with credits (the terms' amount unless given); an existing key starts afresh."""
        key = key or f"pd_sandbox_{secrets.token_hex(8)}"
        self._accounts[key] = _Account(self.terms.credits if credits is None else credits)
        return key

    def credits(self) -> dict[str, float]:
        """What is left on each key."""
        return {key: account.credits for key, account in self._accounts.items()}

    def unix_time(self, at: float | None = None) -> float:
        return self._epoch_offset + (self._clock() if at is None else at)

    def admit(self, key: str | None) -> dict[str, str]:
        """Let one request with this key in, and return its rate-limit headers.

        Raises:
            Refusal: 401 for an unknown key, 429 when the minute's budget is used up.
        """
        account = self._accounts.get(key or "")
        if account is None:
            raise Refusal(401, "unauthorized", "Invalid or missing API key")
        limit = self.terms.requests_per_minute
        return {} if limit is None else self._spend_request(account.recent_requests, limit)

    def _spend_request(self, recent: deque[float], limit: int) -> dict[str, str]:
        now = self._clock()
        while recent and recent[0] <= now - 60:
            recent.popleft()
        full = len(recent) >= limit
        if not full:
            recent.append(now)
        wait = recent[0] + 60 - now
        headers = {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(limit - len(recent)),
            "X-RateLimit-Reset": str(round(self.unix_time(recent[0] + 60))),
        }
        if full:
            headers["Retry-After"] = str(max(1, -int(-wait // 1)))
            raise Refusal(429, "rate_limited", f"Limit of {limit} requests a minute", headers)
        return headers

    def run(self, key: str, body: object) -> Job:
        """Take the money and start a job.

        Raises:
            Refusal: 400 when the body breaks the schema, 402 when the credits do not suffice.
        """
        wrong = next(complaints(body, body_schema(self.terms)), None)
        if wrong or not isinstance(body, dict):
            raise Refusal(400, "invalid_request", f"Invalid request: {wrong}")
        account = self._accounts[key]
        price = self.terms.price
        if account.credits < price:
            raise Refusal(402, "insufficient_credits", f"This job needs {price} credits")
        account.credits = round(account.credits - price, 6)
        job = Job(f"job_{secrets.token_hex(10)}", key, body, price, self._clock())
        self.jobs[job.id] = job
        self.charges.append(Charge(key, job.id, price, body))
        if film := self.begin_film(job):
            self.films[job.id] = film
        return job

    def job(self, key: str, job_id: str) -> Job:
        """One's own job. Raises: Refusal, 404 for an unknown id and for another key's job."""
        job = self.jobs.get(job_id)
        if job is None or job.key != key:
            raise Refusal(404, "job_not_found", "No such job")
        return job

    def recent_jobs(self, key: str, limit: int) -> list[Job]:
        """One's own jobs, newest first, as far as the list knows of them by now."""
        horizon = self._clock() - self.terms.list_lag_seconds
        mine = [job for job in self.jobs.values() if job.key == key and job.created <= horizon]
        return mine[::-1][: min(limit, self.terms.list_cap)]

    def status(self, job: Job) -> str:
        """pending, processing, completed or failed: by time, sample clip and the studio's news."""
        age = self._clock() - job.created
        film = self.films.get(job.id)
        if age < self.terms.pending_seconds:
            return "pending"
        if age < self.terms.pending_seconds + self.terms.processing_seconds or job.clip == ENDLESS:
            return "processing"
        if film is not None and not film.ended:
            return "processing"
        return "failed" if self.error(job) else "completed"

    def error(self, job: Job) -> str:
        """Why the job fails when its time has come; empty when it does not."""
        if job.clip == FAILING:
            return "No person could be found in the source video"
        return self.films[job.id].error if job.id in self.films else ""

    def expires_at(self, job: Job) -> str | None:
        """When the result's URL dies, as ISO 8601 with Z; None when it does not."""
        if self.terms.url_seconds is None:
            return None
        moment = datetime.fromtimestamp(
            self.unix_time(job.created + self.terms.url_seconds), tz=UTC
        )
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

    def result_state(self, job_id: str) -> str:
        """missing, ready or expired: what a GET of the job's film finds."""
        job = self.jobs.get(job_id)
        if job is None or self.status(job) != "completed":
            return "missing"
        life = self.terms.url_seconds
        expired = life is not None and self._clock() - job.created >= life
        return "expired" if expired else "ready"
