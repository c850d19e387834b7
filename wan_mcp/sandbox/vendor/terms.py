"""Settings for every point on which PixelDojo's pages are silent or contradict each other."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from wan_mcp.sandbox.vendor.prices import Prices

Clock = Callable[[], float]
"""Returns seconds that never go back."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How this PixelDojo behaves; the defaults follow the vendor's newest pages.

    They may change while it runs: ``sandbox.terms = dataclasses.replace(sandbox.terms, price=2)``.
    """

    credits: float = 100
    """Credits on each new API key."""
    price: float | Prices = 10
    """Credits per job (documented: 10; another copy of the page: 2). May be fractional, and may
    depend on the job, see `vendor.prices`."""
    quoted_price: float | Prices | None = None
    """What the model page says, when that differs from ``price``."""
    videos: Literal["sample", "own"] = "sample"
    """The video of a completed job. `sample`: always the same short video, and nothing is fetched.
    `own`: one rendered from the job's own inputs, if PyAV is installed (the extra `media`)."""
    pending_seconds: float = 1
    """How long a job is `pending` after its submit."""
    processing_seconds: float = 4
    """How long a job is `processing` after that."""
    url_seconds: float | None = 86_400
    """Lifetime of a result URL, counted from the submit. After it the URL answers 403 (assumed).
    None: it never expires, and there is no ``expiresAt``.

    The vendor's pages of 2025 say 24 h; 1 h was observed elsewhere.
    """
    resolutions: tuple[str, ...] | tuple[int, ...] = ("480", "720")
    """The schema's enum. The type of its first value is the type on the wire (not documented)."""
    submit_omits: frozenset[str] = frozenset()
    """Fields left out of the reply to a submit; only ``jobId`` is in every vendor sample."""
    job_omits: frozenset[str] = frozenset()
    """Fields left out of a job's page."""
    output: Literal["video", "videos", "image", "images", "assets"] = "video"
    """The field that holds a completed job's URL. `video` is documented; the vendor's own clients
    look for the others too."""
    error_shape: Literal["object", "text", "text-message"] = "object"
    """The body of a refusal: all three were observed, none is documented."""
    list_exists: bool = True
    """Whether ``GET /jobs`` exists; if not, it answers 404."""
    list_lag_seconds: float = 0
    """How long a new job is missing from ``GET /jobs``."""
    list_echoes_input: bool = True
    """Whether the list shows each job's input, seed included (unknown)."""
    list_cap: int = 50
    """The most jobs in one reply, newest first (assumed; no paging is known)."""
    list_field: str | None = "jobs"
    """The field that holds the list (assumed). None: the reply is a bare array."""
    requests_per_minute: int | None = None
    """Limit for each API key over all endpoints together. None: no limit. Limits of 60 and of 10
    were both observed."""
