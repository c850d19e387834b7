"""The addresses of storages: their form, and what they reveal."""

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

S3_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
"""The variables that name an S3 other than Amazon's; the first that is set counts (observed)."""
CREDENTIALS = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    *("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_CLIENT_SECRET", "GOOGLE_SERVICE_ACCOUNT_KEY"),
)
"""The variables of the clouds that hold secrets with which links can be signed."""
IN_FILE = "_FILE"
"""The end of the name of a variable that names the file of a secret instead of holding it."""
_SCHEMES = ("s3://", "gs://", "az://")
_PARTS = r"(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*"
_STORAGE = rf"(s3|gs|az)://[A-Za-z0-9][A-Za-z0-9._-]{{1,62}}{_PARTS}"


def is_storage_url(text: str) -> bool:
    """Whether a text is meant to name something in object storage, valid or not, and is no path."""
    return text.startswith(_SCHEMES)


def storage_url(text: str) -> str:
    """The address of a bucket, or of a part of it, without a slash at its end.

    Raises:
        ValueError: it is not such an address, or may contain credentials; the text ends a
            sentence, and does not repeat the address.
    """
    url = text.rstrip("/")
    if not re.fullmatch(_STORAGE, url):
        raise ValueError(
            "must be s3://bucket/prefix, gs://bucket/prefix or az://container/prefix, without "
            "credentials (they go into the cloud's own variables, such as AWS_ACCESS_KEY_ID)"
        )
    return url


def credentials_from_files(environment: Mapping[str, str]) -> dict[str, str]:
    """The credentials that were read from files, and so are in no environment, by their variables.

    Args:
        environment: the variables of the clouds, with the contents of the files that some name.
    """
    return {n: environment[n] for n in CREDENTIALS if environment.get(n + IN_FILE)}


def folder_or_url(value: object) -> Path | str:
    """The folder that a setting names: on a disk, or in object storage.

    Raises:
        ValueError: as for `storage_url`.
    """
    text = str(value)
    return storage_url(text) if is_storage_url(text) else Path(text)


def split_object_url(url: str) -> tuple[str, str]:
    """The URL of the folder that an object is in, and the object's name in it."""
    folder, _, name = url.rpartition("/")
    return folder, name


def link_origin(url: str, environment: Mapping[str, str]) -> str | None:
    """Where the links to objects of a storage lead: scheme, host and port; None if not known.

    It is worked out without opening the storage, from the clouds' own variables (documented).

    Args:
        environment: the variables of the process.
    """
    scheme, bucket = url.partition(":")[0], urlsplit(url).netloc
    if scheme == "gs":
        return "https://storage.googleapis.com"
    if scheme == "az":
        account = environment.get("AZURE_STORAGE_ACCOUNT_NAME")
        return account and f"https://{account}.blob.core.windows.net"
    if endpoint := next(filter(None, map(environment.get, S3_ENDPOINTS)), None):
        parts = urlsplit(endpoint)
        return f"{parts.scheme}://{parts.netloc}"
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1"
    hosted = environment.get("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "").lower() == "true"
    return f"https://{f'{bucket}.' if hosted else ''}s3.{region}.amazonaws.com"
