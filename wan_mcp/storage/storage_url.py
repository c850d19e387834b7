"""What the address of a storage looks like."""

import re

_STORAGE = re.compile(
    r"(s3|gs|az)://[A-Za-z0-9][A-Za-z0-9._-]{1,62}(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*"
)


def storage_url(text: str) -> str:
    """The address of a bucket, or of a part of it, without a slash at its end.

    Raises:
        ValueError: it is none, or may contain credentials; the text ends a sentence, and does not
            repeat the address.
    """
    url = text.rstrip("/")
    if not _STORAGE.fullmatch(url):
        raise ValueError(
            "must be s3://bucket/prefix, gs://bucket/prefix or az://container/prefix, without "
            "credentials (they go into the cloud's own variables, such as AWS_ACCESS_KEY_ID)"
        )
    return url
