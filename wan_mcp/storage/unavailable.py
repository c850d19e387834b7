"""Why a storage could not be used: its answers, sorted by what the operator has to do.

What a storage answers is never repeated, because it may name the key id or repeat what was signed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, auto


class Reason(StrEnum):
    """The reason, as a word for programs."""

    NOT_INSTALLED = auto()
    NOT_SET_UP = auto()
    PLAIN_HTTP = auto()
    NO_CREDENTIALS = auto()
    WRONG_KEY = auto()
    EXPIRED = auto()
    EXPIRES_SOON = auto()
    NOT_ALLOWED = auto()
    NO_BUCKET = auto()
    OTHER_REGION = auto()
    CLOCK = auto()
    FULL = auto()
    OVERLOADED = auto()
    NO_NETWORK = auto()
    CUT = auto()
    SLOW = auto()
    CHANGED = auto()
    NOT_UNDERSTOOD = auto()


class Unavailable(Exception):
    """A storage could not be used.

    Attributes:
        reason: why, for programs.
        what: one plain sentence that says what happened; it contains no credentials and no link.
        next_step: what to do, in a sentence.
        transient: whether trying again soon may help.
    """

    def __init__(self, reason: Reason, what: str, next_step: str, *, transient: bool) -> None:
        super().__init__(what)
        self.reason = reason
        self.what = what
        self.next_step = next_step
        self.transient = transient


@dataclass(frozen=True)
class _Words:
    what: str
    next_step: str
    transient: bool = False


_AGAIN = "Repeating the same call is safe. If it keeps failing, ask the user to check "
_RESTART = " in the environment of this server, then to restart the MCP client."

# {where} is the URL of the storage, {key}, {endpoint} and {region} the variables of its cloud.
_WORDS = {
    Reason.NOT_INSTALLED: _Words(
        "Storage needs the package obstore, which is not installed.",
        "Ask the user to run pip install 'wan-mcp[storage]' in the environment of this server, "
        "then to restart the MCP client.",
    ),
    Reason.NOT_SET_UP: _Words(
        "The storage {where} cannot be opened with the variables of its cloud.",
        "Ask the user to check {key} and {endpoint}" + _RESTART,
    ),
    Reason.PLAIN_HTTP: _Words(
        "The address of the storage {where} begins with http://, so everybody on the way could "
        "read the files.",
        "Ask the user to give {endpoint} an https:// address, or to set AWS_ALLOW_HTTP=true"
        + _RESTART,
    ),
    Reason.NO_CREDENTIALS: _Words(
        "There are no credentials for the storage {where}.",
        "Ask the user to set {key}{instead}" + _RESTART,
    ),
    Reason.WRONG_KEY: _Words(
        "The storage {where} does not accept the credentials.",
        "Ask the user to check {key}" + _RESTART,
    ),
    Reason.EXPIRED: _Words(
        "The credentials for the storage {where} have expired.",
        "Ask the user to renew {key}" + _RESTART,
    ),
    Reason.EXPIRES_SOON: _Words(
        "The credentials for the storage {where} end within an hour, and links end with them.",
        "Ask the user to renew {key}" + _RESTART,
    ),
    Reason.NOT_ALLOWED: _Words(
        "The credentials are not allowed to do this in the storage {where}.",
        "Ask the user to allow them to list, read, write and delete objects there.",
    ),
    Reason.NO_BUCKET: _Words(
        "There is no such bucket as in {where}.",
        "Ask the user to create it, or to correct WAN_MCP_STORAGE_URL (for "
        "finished videos WAN_MCP_VIDEO_DIR) or {endpoint}.",
    ),
    Reason.OTHER_REGION: _Words(
        "The bucket of {where} is in another region than the one that was asked.",
        "Ask the user to set {region} to the region of the bucket" + _RESTART,
    ),
    Reason.CLOCK: _Words(
        "The storage {where} refuses the request because the clock of this computer is wrong.",
        "Ask the user to let the system set its time itself, then call again.",
    ),
    Reason.FULL: _Words(
        "The storage {where} takes no more: it is full, or the file is larger than it allows.",
        "Ask the user to make room there or to raise its limit.",
    ),
    Reason.OVERLOADED: _Words(
        "The storage {where} has a fault or is overloaded at the moment.",
        _AGAIN + "the storage.",
        transient=True,
    ),
    Reason.NO_NETWORK: _Words(
        "The storage {where} could not be reached.",
        _AGAIN + "the network, the proxy settings and {endpoint}.",
        transient=True,
    ),
    Reason.CUT: _Words(
        "The connection to the storage {where} broke off.",
        _AGAIN + "the network.",
        transient=True,
    ),
    Reason.SLOW: _Words(
        "The storage {where} was too slow: nothing moved for a long time.",
        _AGAIN + "the network.",
        transient=True,
    ),
    Reason.CHANGED: _Words(
        "The file changed while it was uploaded, or can no longer be read.",
        "Call again when the program that writes it has finished.",
        transient=True,
    ),
    Reason.NOT_UNDERSTOOD: _Words(
        "The storage {where} answered in a way that is not understood{status}.",
        "Ask the user to check WAN_MCP_STORAGE_URL (for finished videos WAN_MCP_VIDEO_DIR) and "
        "{endpoint}.",
    ),
}

_VARIABLES = {
    "s3": {
        "key": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        "endpoint": "AWS_ENDPOINT_URL",
        "region": "AWS_REGION",
        "instead": " (profiles in ~/.aws are not read)",
    },
    "gs": {
        "key": "GOOGLE_SERVICE_ACCOUNT (the path of a key file)",
        "endpoint": "the project's settings",
        "region": "the region",
        "instead": "",
    },
    "az": {
        "key": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
        "endpoint": "AZURE_STORAGE_ACCOUNT_NAME",
        "region": "the region",
        "instead": "",
    },
}

# Codes of S3 and its likes, of Google Cloud and of Azure (documented).
_CODES = {
    "InvalidAccessKeyId": Reason.WRONG_KEY,
    "SignatureDoesNotMatch": Reason.WRONG_KEY,
    "InvalidSecurity": Reason.WRONG_KEY,
    "InvalidToken": Reason.WRONG_KEY,
    "AuthenticationFailed": Reason.WRONG_KEY,
    "ExpiredToken": Reason.EXPIRED,
    "NoSuchBucket": Reason.NO_BUCKET,
    "InvalidBucketName": Reason.NO_BUCKET,
    "ContainerNotFound": Reason.NO_BUCKET,
    "PermanentRedirect": Reason.OTHER_REGION,
    "AuthorizationHeaderMalformed": Reason.OTHER_REGION,
    "IllegalLocationConstraintException": Reason.OTHER_REGION,
    "RequestTimeTooSkewed": Reason.CLOCK,
    "QuotaExceeded": Reason.FULL,
    "XMinioStorageFull": Reason.FULL,
    "EntityTooLarge": Reason.FULL,
    "RequestBodyTooLarge": Reason.FULL,
    "InsufficientStorage": Reason.FULL,
    "RequestTimeout": Reason.SLOW,
    "BadDigest": Reason.CUT,
    "Md5Mismatch": Reason.CUT,
}
_STATUSES = {
    301: Reason.OTHER_REGION,
    307: Reason.OTHER_REGION,
    401: Reason.WRONG_KEY,
    403: Reason.NOT_ALLOWED,
    404: Reason.NO_BUCKET,
    408: Reason.SLOW,
    413: Reason.FULL,
    429: Reason.OVERLOADED,
    507: Reason.FULL,
}
# How storages reject a link that was signed just now, beside a code that has other meanings, too:
# S3 and Google Cloud (observed elsewhere), and Azure (documented).
_CLOCK_WORDS = (
    *("Request has expired", "Request is not valid yet", "Request signature expired"),
    "not valid in the specified time frame",
)
# Parts of the text when no variable holds credentials and those of the cloud that this computer may
# be in were requested, or when a file of credentials cannot be read (observed).
_OWN_CREDENTIALS = ("//169.254.", "/latest/api/token", "/computeMetadata/", "token file")
# How obstore 0.12 describes what went wrong if there was no answer (observed).
_WITHOUT_ANSWER = (
    ("MissingAccount", Reason.NO_CREDENTIALS),
    ("BareRedirect", Reason.OTHER_REGION),
    ("kind: Timeout", Reason.SLOW),
    ("TimedOut", Reason.SLOW),
    ("kind: Connect,", Reason.NO_NETWORK),
    ("HttpError", Reason.CUT),
)


def unavailable(reason: Reason, where: str, *, status: int | None = None) -> Unavailable:
    """The error for a reason.

    Args:
        where: the URL of the storage, such as `s3://bucket/prefix`.
        status: the status of an HTTP answer that is not understood.
    """
    words = _WORDS[reason]
    names: Mapping[str, str] = {
        "where": where,
        "status": f" (HTTP {status})" if status else "",
        **_VARIABLES[where.partition(":")[0]],
    }
    return Unavailable(
        reason,
        words.what.format_map(names),
        words.next_step.format_map(names),
        transient=words.transient,
    )


def reason_of(text: str) -> tuple[Reason, int | None]:
    """Why something failed, and the status of the answer, from the text of obstore's error."""
    if any(words in text for words in _OWN_CREDENTIALS):
        return Reason.NO_CREDENTIALS, None
    if found := re.search(r"status code: (\d{3})", text):
        return reason_of_answer(int(found[1]), text)
    reasons = (reason for words, reason in _WITHOUT_ANSWER if words in text)
    return _reason_of_code(text) or next(reasons, Reason.NOT_UNDERSTOOD), None


def reason_of_answer(status: int, text: str) -> tuple[Reason, int]:
    """Why something failed, and the status, from an answer of a storage."""
    if any(words in text for words in _CLOCK_WORDS):
        return Reason.CLOCK, status
    if reason := _reason_of_code(text) or _STATUSES.get(status):
        return reason, status
    return (Reason.OVERLOADED if status >= 500 else Reason.NOT_UNDERSTOOD), status


def _reason_of_code(text: str) -> Reason | None:
    codes = re.findall(r"<Code>(\w{1,60})</Code>", text)
    return next((_CODES[code] for code in codes if code in _CODES), None)
