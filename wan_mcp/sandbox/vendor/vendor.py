"""The vendor's state: API keys, credits, jobs and charges. No I/O; the clock is handed in."""

import secrets
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from wan_mcp.sandbox.vendor.prices import prices_of
from wan_mcp.sandbox.vendor.schema import body_schema, complaints
from wan_mcp.sandbox.vendor.terms import Clock, Terms

FAILING = "/media/no-person.mp4"
"""A job whose `video` has this path fails."""
ENDLESS = "/media/endless.mp4"
"""A job whose `video` has this path never ends."""
_WINDOW_SECONDS = 60


class Refusal(Exception):
    """The vendor refuses a request, and charges nothing.

    Attributes:
        status: the HTTP status.
        code: the vendor's error code, such as "insufficient_credits".
        message: one sentence.
        headers: further headers of the reply.
    """

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
    """One payment. In every test about paying twice, the list of charges decides.

    Attributes:
        key: the API key that paid.
        job_id: the job that was paid for.
        amount: in credits.
        body: the request's JSON.
    """

    key: str
    job_id: str
    amount: float
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """A paid job. Its status is not stored: it follows from the time (see `Vendor.status`).

    Attributes:
        id: the vendor's id.
        key: the API key that paid.
        body: the request's JSON.
        cost: in credits.
        created: in seconds on the vendor's clock.
    """

    id: str
    key: str
    body: Mapping[str, Any]
    cost: float
    created: float

    @property
    def video_path(self) -> str:
        """The path of the source video's URL, by which the special samples are recognized."""
        return urlsplit(str(self.body["video"])).path


@dataclass
class Rendering:
    """A job's own video. Both fields are empty until rendering has ended; then one is set.

    Attributes:
        content: the bytes of the MP4 file.
        error: why there is no video, as a sentence.
    """

    content: bytes = b""
    error: str = ""

    @property
    def ended(self) -> bool:
        """Whether the video, or the reason why there is none, is known."""
        return bool(self.content or self.error)


@dataclass
class _Account:
    credits: float
    recent_requests: deque[float] = field(default_factory=deque)


class Vendor:
    """PixelDojo without the network.

    Attributes:
        terms: how this vendor behaves; may be replaced at any time.
        origin: the start of its URLs, as "http://127.0.0.1:PORT"; empty until it listens.
        charges: every charge, oldest first.
        jobs: every job by its id, oldest first.
        renderings: by job id, the videos of those jobs that get their own. All others return the
            sample.
        start_rendering: called with each new job; returns None when the job gets the sample.
    """

    def __init__(self, terms: Terms, *, clock: Clock, epoch: float) -> None:
        """`epoch` is the Unix time when `clock` is read first; from then on the two move together.

        Args:
            terms: how this vendor behaves.
            clock: seconds that never go back.
            epoch: in seconds since 1970.
        """
        self.terms = terms
        self.origin = ""
        self.charges: list[Charge] = []
        self.jobs: dict[str, Job] = {}
        self.renderings: dict[str, Rendering] = {}
        self.start_rendering: Callable[[Job], Rendering | None] = lambda _: None
        self._accounts: dict[str, _Account] = {}
        self._clock = clock
        self._epoch_offset = epoch - clock()

    def open_account(self, key: str | None = None, *, credits: float | None = None) -> str:
        """Create an API key with credits, or reset an existing one, and return the key.

        Args:
            key: a new random key if None.
            credits: `Terms.credits` if None.
        """
        key = key or f"pd_sandbox_{secrets.token_hex(8)}"
        self._accounts[key] = _Account(self.terms.credits if credits is None else credits)
        return key

    def credits(self) -> dict[str, float]:
        """The credits left on each API key."""
        return {key: account.credits for key, account in self._accounts.items()}

    def unix_time(self, at: float | None = None) -> float:
        """The Unix time at a moment of the vendor's clock, or now."""
        return self._epoch_offset + (self._clock() if at is None else at)

    def admit(self, key: str | None) -> dict[str, str]:
        """Accept one request with this API key, and return its rate-limit headers.

        Raises:
            Refusal: 401 for an unknown key, 429 when the requests of this minute are used up.
        """
        account = self._accounts.get(key or "")
        if account is None:
            raise Refusal(401, "unauthorized", "Invalid or missing API key")
        limit = self.terms.requests_per_minute
        return {} if limit is None else self._count_request(account.recent_requests, limit)

    def _count_request(self, recent: deque[float], limit: int) -> dict[str, str]:
        now = self._clock()
        while recent and recent[0] <= now - _WINDOW_SECONDS:
            recent.popleft()
        full = len(recent) >= limit
        if not full:
            recent.append(now)
        reset = recent[0] + _WINDOW_SECONDS
        headers = {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(limit - len(recent)),
            "X-RateLimit-Reset": str(round(self.unix_time(reset))),
        }
        if full:
            headers["Retry-After"] = str(max(1, -int(-(reset - now) // 1)))
            raise Refusal(429, "rate_limited", f"Limit of {limit} requests a minute", headers)
        return headers

    def run(self, key: str, body: object) -> Job:
        """Charge the price and start a job.

        Raises:
            Refusal: 400 when the body breaks the schema, 402 when the credits do not suffice.
        """
        complaint = next(complaints(body, body_schema(self.terms)), None)
        if complaint or not isinstance(body, dict):
            raise Refusal(400, "invalid_request", f"Invalid request: {complaint}")
        account = self._accounts[key]
        price = prices_of(self.terms.price).of(body)
        if account.credits < price:
            raise Refusal(402, "insufficient_credits", f"This job needs {price} credits")
        account.credits = round(account.credits - price, 6)
        job = Job(f"job_{secrets.token_hex(10)}", key, body, price, self._clock())
        self.jobs[job.id] = job
        self.charges.append(Charge(key, job.id, price, body))
        if rendering := self.start_rendering(job):
            self.renderings[job.id] = rendering
        return job

    def job(self, key: str, job_id: str) -> Job:
        """A job that this API key paid.

        Raises:
            Refusal: 404 for an unknown id, and the same for another key's job.
        """
        job = self.jobs.get(job_id)
        if job is None or job.key != key:
            raise Refusal(404, "job_not_found", "No such job")
        return job

    def recent_jobs(self, key: str, limit: int) -> list[Job]:
        """The jobs of an API key that the list already shows, newest first, at most `limit`."""
        horizon = self._clock() - self.terms.list_lag_seconds
        own = [job for job in self.jobs.values() if job.key == key and job.created <= horizon]
        return own[::-1][: min(limit, self.terms.list_cap)]

    def status(self, job: Job) -> str:
        """pending, processing, completed or failed.

        It follows from the job's age, from its source video and from the state of its rendering.
        """
        age = self._clock() - job.created
        seconds = self.terms.pending_seconds + self.terms.processing_seconds
        rendering = self.renderings.get(job.id)
        if age < self.terms.pending_seconds:
            return "pending"
        if age < seconds or job.video_path == ENDLESS:
            return "processing"
        if rendering is not None and not rendering.ended:
            return "processing"
        return "failed" if self.error(job) else "completed"

    def error(self, job: Job) -> str:
        """Why the job fails at its end, as a sentence; empty when it does not fail."""
        if job.video_path == FAILING:
            return "No person could be found in the source video"
        return self.renderings[job.id].error if job.id in self.renderings else ""

    def expires_at(self, job: Job) -> str | None:
        """When the result's URL expires, in ISO 8601 with Z; None when it never does."""
        if self.terms.url_seconds is None:
            return None
        moment = datetime.fromtimestamp(
            self.unix_time(job.created + self.terms.url_seconds), tz=UTC
        )
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

    def result_state(self, job_id: str) -> str:
        """missing, ready or expired: what a GET of the job's video finds."""
        job = self.jobs.get(job_id)
        if job is None or self.status(job) != "completed":
            return "missing"
        lifetime = self.terms.url_seconds
        expired = lifetime is not None and self._clock() - job.created >= lifetime
        return "expired" if expired else "ready"
