"""Which fields of a JobResult each tool can give: only those are in the schema of its answers."""

PAID_FIELDS = frozenset(
    {"limit", "limit_value", "used", "blocking_job_ids", "credits_remaining"},
)
"""The fields that only a paid call can have: only its schema describes them."""
FREE_FIELDS = frozenset(
    {
        *("source_video", "character_image", "video_duration", "resolution"),
        *("elapsed_seconds", "saved_url"),
    }
)
"""The fields that only a free call can have: the schema of the paid one omits them."""
CANCEL_FIELDS = frozenset(
    {
        *("message", "job_id", "status", "charged", "job_charged", "credit_cost"),
        *("retry_safe", "retry_after_seconds", "code", "next"),
    }
)
"""The fields that cancel_job gives."""
