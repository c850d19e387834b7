"""One bucket, or a part of it, through obstore: Amazon S3 and compatible ones, Google Cloud, Azure.

obstore itself reads the clouds' own variables (AWS_ACCESS_KEY_ID, ...) from the process. Of the
environment that is passed in, only the variables that decide something here are used: whether the
endpoint is on this computer, and how long a link can live. Credentials that were read from files
are in no environment, so they are passed to obstore.

obstore only signs uploads. If it made them, in several parts, the remains of one could be neither
found nor removed after a crash.

Its blocking calls run in threads. With the asynchronous ones, every second process ends with
SIGABRT at its exit: their own threads still use Python then (observed, obstore 0.12).
"""

import random
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeVar
from urllib.parse import SplitResult, urlsplit

import anyio
import anyio.to_thread

from wan_mcp.clock import retry_delay
from wan_mcp.storage.sending import MOST_BYTES, Outcome, Upload, ask, send
from wan_mcp.storage.storage_url import S3_ENDPOINTS, credentials_from_files
from wan_mcp.storage.unavailable import Reason, Unavailable, reason_of, unavailable
from wan_mcp.web import addresses

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Bucket

T = TypeVar("T")

_VARIABLES = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_"}
"""The prefix of the variables of each cloud."""

SHORTEST_LINK = 3600.0
"""In seconds: a job may wait this long until PixelDojo downloads its inputs (ours)."""
_UPLOAD_LINK = timedelta(minutes=15)
"""How long a link for an upload can be used: S3 also refuses a request whose signer's clock is off
by this much (documented). An upload that has begun may take longer."""
_AGAIN = {Reason.CUT, Reason.OVERLOADED, Reason.NO_NETWORK}
"""The reasons that may be gone at the next request."""
_BLOCK_BYTES = 1 << 20
_CREDENTIALS = (
    *("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"),
    *("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
)


@dataclass(frozen=True)
class Patience:
    """How long a storage may take (ours).

    Attributes:
        answer: seconds for a short request, including its repetitions.
        stall: seconds within which the storage must take at least one more block of an upload.
        retries: how often a request is repeated if it got no answer, or one that reports a fault.
        uploads: how often the same file is sent at most, each time from its beginning.
    """

    answer: float = 30.0
    stall: float = 240.0
    retries: int = 5
    uploads: int = 3


@dataclass(frozen=True)
class StoredObject:
    """One object in a storage.

    Attributes:
        name: its name below the prefix of the storage.
        size: how many bytes it has.
        modified: when it was last written, by the storage's clock; UTC.
    """

    name: str
    size: int
    modified: datetime


class ObjectStore:
    """The objects below one URL. Nothing is imported or asked before the first call.

    Every method may raise Unavailable, whose texts contain neither credentials nor links.

    Args:
        url: `s3://bucket/prefix`, or the same with `gs` or `az`; the prefix may be missing.
        environment: that of the process, which obstore also reads, and credentials from files.
        patience: how long the storage may take.
    """

    def __init__(
        self, url: str, environment: Mapping[str, str], patience: Patience | None = None
    ) -> None:
        self.url = url
        self._environment = environment
        self._patience = patience or Patience()
        self._opened: Bucket | None = None

    def __repr__(self) -> str:
        return f"ObjectStore({self.url!r})"

    @property
    def _is_s3(self) -> bool:
        return self.url.startswith("s3:")

    @property
    def is_on_this_computer(self) -> bool:
        """Whether its address leads to this computer, which PixelDojo cannot reach."""
        return addresses.is_loopback(self._endpoint().hostname or "")

    def open(self) -> None:
        """Import obstore and read the variables of the cloud; the other methods do so if needed."""
        self._bucket()

    async def head(self, name: str) -> StoredObject | None:
        """The size and the date of an object; None if there is none."""
        bucket = self._bucket()
        try:
            found = await self._answer(lambda: bucket.head(name))
        except FileNotFoundError:
            return None
        return StoredObject(name, found["size"], found["last_modified"])

    async def put(
        self,
        name: str,
        file: BinaryIO,
        size: int,
        sha256: str,
        media_type: str,
        report: Callable[[int], None],
    ) -> None:
        """Upload a file as one object.

        The object becomes visible only when it is complete and its hash is right. If the upload
        fails, is cancelled or ends with the program, nothing is left in the storage.

        Args:
            file: open for reading in binary.
            size, sha256: how many bytes there must be, and their hash in hex digits.
            media_type: their MIME type, such as `video/mp4`.
            report: called with the number of bytes that have been sent so far; it falls when the
                file is sent again from its beginning.

        Raises:
            Unavailable: with Reason.CHANGED if the bytes have changed, or cannot be read.
        """
        upload = Upload(file, size, sha256, media_type, report)
        reason, status = (
            (Reason.FULL, None) if size > MOST_BYTES else await self._send(name, upload)
        )
        if reason is not None:
            raise self._unavailable(reason, status)

    async def sign(self, name: str, seconds: float) -> str:
        """A link under which anybody can fetch the object for this many seconds."""
        return await self._signed("GET", name, timedelta(seconds=int(seconds)))

    async def delete(self, name: str) -> None:
        """Delete an object; not an error if there is none."""
        bucket = self._bucket()
        try:
            await self._answer(lambda: bucket.delete(name))
        except FileNotFoundError:
            return

    async def list(self, folder: str) -> AsyncIterator[StoredObject]:
        """All objects whose names begin with `folder` and a slash."""
        pages = iter(self._bucket().list(folder))
        while (found := await self._answer(lambda: next(pages, None))) is not None:
            for each in found:
                yield StoredObject(each["path"], each["size"], each["last_modified"])

    async def read(self, name: str) -> AsyncIterator[bytes]:
        """The bytes of an object, in blocks of a few MB at most.

        Raises:
            FileNotFoundError: there is none.
        """
        bucket = self._bucket()
        found = await self._answer(lambda: bucket.get(name))
        blocks = iter(found.stream(min_chunk_size=_BLOCK_BYTES))
        while (block := await self._answer(lambda: next(blocks, None))) is not None:
            yield bytes(block)

    async def look(self) -> None:
        """List one page of names: this costs nothing, and raises if the storage cannot be used."""
        bucket = self._bucket()
        await self._answer(bucket.list_with_delimiter, missing=Reason.NO_BUCKET)

    def link_seconds(self, wanted: float, now: datetime) -> float:
        """How many seconds a link that is signed now can work: it dies with its credentials.

        AWS_CREDENTIAL_EXPIRATION says when temporary credentials end (documented); if it is not
        set, that is not known.

        Args:
            wanted: seconds that it should work, if the credentials live that long.

        Raises:
            Unavailable: less than an hour is left.
        """
        end = self._end_of_credentials()
        seconds = wanted if end is None else min(wanted, (end - now).total_seconds())
        if seconds < SHORTEST_LINK:
            raise self._unavailable(Reason.EXPIRES_SOON)
        return seconds

    def _end_of_credentials(self) -> datetime | None:
        if not self._is_s3 or not self._environment.get("AWS_SESSION_TOKEN"):
            return None
        try:
            end = datetime.fromisoformat(self._environment.get("AWS_CREDENTIAL_EXPIRATION", ""))
        except ValueError:
            return None
        return end if end.tzinfo else end.replace(tzinfo=UTC)

    async def _send(self, name: str, upload: Upload) -> Outcome:
        """Send a file, and send it again where that may help. Returns how that ended."""
        headers, patience = _headers(self.url), self._patience
        attempt = 0
        while True:
            attempt += 1
            link = await self._signed("PUT", name, _UPLOAD_LINK)
            outcome = await send(link, upload, headers, patience.answer, patience.stall)
            if outcome[0] is Reason.CUT:
                outcome = await self._why_cut(name)
            if outcome[0] not in _AGAIN or attempt >= patience.uploads:
                return outcome
            await anyio.sleep(retry_delay(attempt, random.random()))

    async def _why_cut(self, name: str) -> Outcome:
        """Why a storage ended a connection.

        It may have refused the file before all of it had come, and such an answer is often lost
        when the connection ends. The request here is so short that its answer is not lost.
        """
        name = f"{name}.question"
        link = await self._signed("PUT", name, _UPLOAD_LINK)
        reason, status = await ask(link, _headers(self.url), self._patience.answer)
        if reason is None:  # this storage does not check the checksum
            await self.delete(name)
        if reason is None or (reason, status) == (Reason.NOT_UNDERSTOOD, 400):
            return Reason.CUT, None  # it takes files, or has its own code for a wrong checksum
        return reason, status

    async def _signed(self, method: Literal["GET", "PUT"], name: str, life: timedelta) -> str:
        bucket: Any = self._bucket()
        from obstore import sign

        return await self._answer(lambda: sign(bucket, method, name, life))

    async def _answer(self, ask: Callable[[], T], missing: Reason | None = None) -> T:
        """The answer of the storage, within the time limit.

        Args:
            missing: the reason if something is not found; None to raise FileNotFoundError then.
        """
        status = None
        try:
            with anyio.fail_after(self._patience.answer):
                return await anyio.to_thread.run_sync(ask, abandon_on_cancel=True)
        except TimeoutError:
            reason = Reason.SLOW if self._has_credentials() else Reason.NO_CREDENTIALS
        except FileNotFoundError:
            if missing is None:
                raise
            reason = missing
        except _errors() as exc:
            reason, status = reason_of(str(exc))
        raise self._unavailable(reason, status)  # not above: there obstore's error would be chained

    def _has_credentials(self) -> bool:
        return not self._is_s3 or any(self._environment.get(name) for name in _CREDENTIALS)

    def _bucket(self) -> "Bucket":
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def _open(self) -> "Bucket":
        if self._is_readable_on_the_way():
            raise self._unavailable(Reason.PLAIN_HTTP)
        reason = Reason.NOT_INSTALLED
        try:
            from obstore.store import from_url

            return from_url(self.url, **self._options())
        except ImportError:
            pass
        except _errors() as exc:
            found, _ = reason_of(str(exc))
            reason = Reason.NOT_SET_UP if found is Reason.NOT_UNDERSTOOD else found
        raise self._unavailable(reason)

    def _options(self) -> Any:
        patience = self._patience
        client: dict[str, Any] = {"timeout": timedelta(seconds=patience.stall)}
        if self.is_on_this_computer:
            client["allow_http"] = True
        stall = timedelta(seconds=patience.stall)
        retries = {"max_retries": patience.retries, "retry_timeout": stall}
        # Not every S3 server can delete several objects with one request (documented).
        config: dict[str, Any] = {"disable_bulk_delete": True} if self._is_s3 else {}
        own = _VARIABLES[self.url.partition(":")[0]]
        given = credentials_from_files(self._environment)
        config |= {name.lower(): value for name, value in given.items() if name.startswith(own)}
        return {"config": config, "client_options": client, "retry_config": retries}

    def _endpoint(self) -> SplitResult:
        given = (self._environment.get(name, "") for name in S3_ENDPOINTS)
        return urlsplit(next((each for each in given if each), "") if self._is_s3 else "")

    def _is_readable_on_the_way(self) -> bool:
        is_allowed = self._environment.get("AWS_ALLOW_HTTP", "").lower() in ("true", "1")
        is_plain = self._endpoint().scheme == "http"
        return is_plain and not is_allowed and not self.is_on_this_computer

    def _unavailable(self, reason: Reason, status: int | None = None) -> Unavailable:
        return unavailable(reason, self.url, status=status)


def _headers(url: str) -> list[tuple[str, str]]:
    """The headers that a storage needs with an upload (documented)."""
    return [("x-ms-blob-type", "BlockBlob")] if url.startswith("az:") else []


def _errors() -> tuple[type[Exception], ...]:
    """The exceptions that obstore raises."""
    from obstore.exceptions import BaseError

    return (BaseError, FileNotFoundError, ValueError)
