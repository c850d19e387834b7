"""What this PixelDojo is like, on every point where the real one's pages are silent or differ."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Clock = Callable[[], float]


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How this PixelDojo behaves; the defaults follow the vendor's newest pages.

    They may change while it runs: ``sandbox.terms = dataclasses.replace(sandbox.terms, price=2)``.
    """

    credits: float = 100
    """Credits on each new key."""
    price: float = 10
    """Credits per job (documented: 10; another copy of the page: 2). May be fractional."""
    quoted_price: float | None = None
    """What the model page says, when that differs from ``price``."""
    films: Literal["sample", "own"] = "sample"
    """What a finished job brings. `sample`: always the same short film, and nothing is fetched.
    `own`: where PyAV is installed (the extra `media`), one made from the job's own inputs."""
    pending_seconds: float = 1
    processing_seconds: float = 4
    url_seconds: float | None = 86_400
    """Life of a result URL after its submit; then 403. None: for ever, and no ``expiresAt``.

    24 h in the vendor's 2025 pages, 1 h elsewhere; that 403 is the answer is (assumed).
    """
    resolutions: tuple[str, ...] | tuple[int, ...] = ("480", "720")
    """The schema's enum; its first value's type is the type on the wire (not documented)."""
    submit_omits: frozenset[str] = frozenset()
    """Fields left out of the answer to a submit; only ``jobId`` is in every vendor sample."""
    job_omits: frozenset[str] = frozenset()
    output: Literal["video", "videos", "image", "images", "assets"] = "video"
    """Where a finished job carries its URL; the others are probed by the vendor's own clients."""
    error_shape: Literal["object", "text", "text-message"] = "object"
    """The body of a refusal: all three were seen, none is documented."""
    list_exists: bool = True
    list_lag_seconds: float = 0
    """How long a new job is missing from ``GET /jobs``."""
    list_echoes_input: bool = True
    """Whether the list shows each job's input, seed included (unknown)."""
    list_cap: int = 50
    """The most jobs one list answer holds, newest first (assumed; no paging is known)."""
    list_field: str | None = "jobs"
    """The field that holds the list (assumed); None: the answer is a bare array."""
    requests_per_minute: int | None = None
    """Budget per key over all endpoints together; None: not enforced. 60 and 10 were both seen."""
