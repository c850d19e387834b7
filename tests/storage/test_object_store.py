"""What a storage refuses, and in which words; no secret is in them."""

import hashlib
import io
import json
import logging
import os
import re
import sys
import traceback
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import respx

from tests.storage.s3 import KEY_ID, S3, SECRET, URL
from tests.storage.test_uploads import LARGE, PATIENT, SMALL, content, refusal, uploads
from tests.storage.wire import Wire, always_answering
from wan_mcp.clock import Clock
from wan_mcp.errors import NotSent
from wan_mcp.settings import Settings
from wan_mcp.storage import object_store, sending
from wan_mcp.storage.object_store import ObjectStore
from wan_mcp.storage.storage_url import CREDENTIALS
from wan_mcp.storage.unavailable import Reason, Unavailable, reason_of_answer
from wan_mcp.storage.uploads import Uploads

pytestmark = pytest.mark.anyio

WRONG = "canary-wrong-secret"
CANARIES = (KEY_ID, SECRET, WRONG, "X-Amz-", "Signature", "http://127", "<Code>")
AGAIN = "Repeating the same call is safe."


def store() -> ObjectStore:
    return ObjectStore(URL, os.environ, PATIENT)


def whole(error: BaseException) -> str:
    """Everything that a log could show of an error and of what it came from."""
    assert error.__cause__ is None
    assert error.__context__ is None
    return "".join(traceback.format_exception(error)) + repr(error.__dict__)


async def refused(expected: Reason) -> NotSent:
    """The refusal of a small upload, and of a large one; both for that reason."""
    refusals = [await refusal(uploads(), content(data)) for data in (SMALL, LARGE)]
    for each in refusals:
        text = whole(each)
        assert [canary for canary in CANARIES if canary in text] == []
        assert each.charged == "no"
        assert each.next_step != NotSent.advice
    assert refusals[0].what == refusals[1].what
    with pytest.raises(Unavailable) as looked:
        await store().look()
    assert looked.value.reason is expected
    assert [canary for canary in CANARIES if canary in whole(looked.value)] == []
    return refusals[0]


async def test_wrong_secret_is_named_as_wrong_credentials(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server checks each signature (observed)."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", WRONG)

    error = await refused(Reason.WRONG_KEY)

    assert error.what == f"The storage {URL} does not accept the credentials."
    assert "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in error.next_step
    assert not error.retry_safe
    assert s3.objects() == {}


async def test_unknown_key_id_is_named_as_wrong_credentials(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be of another account (ours)."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", WRONG)

    assert "does not accept the credentials" in (await refused(Reason.WRONG_KEY)).what


async def test_missing_bucket_is_named(s3: S3) -> None:
    """Whether an object is in it is answered as if only the object were missing (observed)."""
    with pytest.raises(Unavailable) as looked:
        await ObjectStore("s3://no-such-bucket/x", os.environ, PATIENT).look()
    missing = Uploads(ObjectStore("s3://no-such-bucket/x", os.environ, PATIENT), Clock())

    for data in (SMALL, LARGE):
        error = await refusal(missing, content(data))

        assert error.what == "There is no such bucket as in s3://no-such-bucket/x."
        assert error.what == looked.value.what
        assert "WAN_MCP_STORAGE_URL" in error.next_step
        assert not error.retry_safe


async def test_wrong_clock_is_named(s3: S3) -> None:
    """S3 refuses what was signed a quarter of an hour from its own time (documented)."""
    s3.set_clock_ahead(20 * 60)

    error = await refused(Reason.CLOCK)

    assert "the clock of this computer is wrong" in error.what
    assert not error.retry_safe


async def test_unreachable_storage_is_named_and_may_be_tried_again(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing listens on the port of discarded data (assumed)."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")

    error = await refused(Reason.NO_NETWORK)

    assert error.what == f"The storage {URL} could not be reached."
    assert error.next_step.startswith(AGAIN)
    assert error.retry_safe


async def test_missing_credentials_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """obstore then asks the cloud that this computer may be in (documented)."""
    pytest.importorskip("obstore", reason="the extra storage is not installed")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    async with always_answering(404) as endpoint:
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", endpoint)
        await says_that_there_are_none()
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    await says_that_there_are_none()


async def says_that_there_are_none() -> None:
    error = await refusal(uploads(), content(SMALL))

    assert error.what == f"There are no credentials for the storage {URL}."
    assert "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in error.next_step
    assert "profiles in ~/.aws are not read" in error.next_step
    assert not error.retry_safe


def s3_error(code: str) -> str:
    """An answer of S3 as it may be, with a key id in it (documented)."""
    return f"<Error><Code>{code}</Code><AWSAccessKeyId>{KEY_ID}</AWSAccessKeyId></Error>"


@pytest.mark.parametrize(
    ("status", "body", "reason", "words", "is_transient"),
    [
        (403, s3_error("AccessDenied"), Reason.NOT_ALLOWED, "are not allowed to do this", False),
        (400, s3_error("ExpiredToken"), Reason.EXPIRED, "have expired", False),
        (507, s3_error("XMinioStorageFull"), Reason.FULL, "takes no more", False),
        (403, s3_error("QuotaExceeded"), Reason.FULL, "takes no more", False),
        (413, "", Reason.FULL, "takes no more", False),
        (503, s3_error("SlowDown"), Reason.OVERLOADED, "is overloaded", True),
        (500, "", Reason.OVERLOADED, "is overloaded", True),
        (
            400,
            s3_error("AuthorizationHeaderMalformed"),
            Reason.OTHER_REGION,
            "another region",
            False,
        ),
        (301, s3_error("PermanentRedirect"), Reason.OTHER_REGION, "another region", False),
        (418, "teapot", Reason.NOT_UNDERSTOOD, "is not understood (HTTP 418)", False),
    ],
)
async def test_refusal_of_a_cloud_becomes_one_plain_sentence(
    s3: S3,
    status: int,
    body: str,
    reason: Reason,
    words: str,
    is_transient: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their codes are documented; the server of these tests has not all of them.

    An upload is refused before all of it has come, and the connection ends: the sender often loses
    the answer then, and has to find out why (observed).
    """
    async with always_answering(status, body) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with pytest.raises(Unavailable) as looked:
            await store().look()
        with pytest.raises(Unavailable) as put:
            await sent_once(LARGE)

    for refused in (looked.value, put.value):
        assert refused.reason is reason
        assert words in refused.what
        assert refused.transient is is_transient
        assert [canary for canary in CANARIES if canary in whole(refused)] == []


async def sent_once(data: bytes, name: str = "a.mp4", url: str = URL) -> None:
    """Put an object, without repetition."""
    digest = hashlib.sha256(data).hexdigest()
    one = ObjectStore(url, Settings.read(os.environ).clouds, replace(PATIENT, uploads=1))
    await one.put(name, io.BytesIO(data), len(data), digest, "video/mp4", lambda sent: None)


async def test_upload_follows_no_redirect(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes go to the address that the operator has given, and nowhere else (ours)."""
    async with always_answering(307, location=s3.endpoint) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with pytest.raises(Unavailable) as refused:
            await sent_once(SMALL)

    assert refused.value.reason is Reason.OTHER_REGION
    assert s3.objects() == {}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("<Error><Code>AccessDenied</Code><Message>Request has expired</Message>", Reason.CLOCK),
        (
            "<Error><Code>AuthenticationFailed</Code><AuthenticationErrorDetail>Signature not "
            "valid in the specified time frame</AuthenticationErrorDetail>",
            Reason.CLOCK,
        ),
        ("<Error><Code>BadDigest</Code>", Reason.CUT),
        ("<Error><Code>Md5Mismatch</Code>", Reason.CUT),
    ],
)
def test_refusal_of_a_signed_upload_is_understood(body: str, reason: Reason) -> None:
    """A link that was signed just now is too old only by another clock (ours)."""
    assert reason_of_answer(403, body) == (reason, 403)


async def test_storage_that_looks_at_no_checksum_keeps_nothing_of_the_question(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stores what another one answers with an error; nobody may find that (ours)."""
    monkeypatch.setattr(sending, "_OTHER", b"")  # then the checksum of the question is right
    wire = Wire(s3.endpoint, breaks_after=60_000)
    async with wire.opened() as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with pytest.raises(Unavailable) as refused:
            await sent_once(LARGE)

    assert wire.breaks == 1
    assert refused.value.reason is Reason.CUT
    assert s3.objects() == {}


async def test_file_that_no_storage_takes_in_one_request_is_refused_before(s3: S3) -> None:
    """S3 takes 5 GiB, Azure a little less (documented)."""
    with pytest.raises(Unavailable) as refused:
        await store().put("a", io.BytesIO(), 5_000_000_001, "", "video/mp4", lambda sent: None)

    assert "the file is larger than it allows" in refused.value.what


@pytest.fixture
def clouds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials of all three clouds, which nobody has."""
    pytest.importorskip("obstore", reason="the extra storage is not installed")
    rsa = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.rsa")
    forms = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    key = rsa.generate_private_key(65_537, 2_048).private_bytes(
        forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption()
    )
    account = {"private_key": key.decode(), "client_email": "a@b", "private_key_id": "1"}
    (tmp_path / "account.json").write_text(json.dumps(account))
    for name, value in {
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "eu-central-1",
        "AZURE_STORAGE_ACCOUNT_NAME": "account",
        "AZURE_STORAGE_ACCOUNT_KEY": "a2V5",
        "GOOGLE_SERVICE_ACCOUNT": str(tmp_path / "account.json"),
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ENDPOINT_URL", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=[False, True], ids=["in variables", "in files"])
def given_clouds(
    request: pytest.FixtureRequest, clouds: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The same credentials, given in both ways."""
    if not request.param:
        return
    monkeypatch.setenv(
        "GOOGLE_SERVICE_ACCOUNT_KEY", Path(os.environ["GOOGLE_SERVICE_ACCOUNT"]).read_text()
    )
    monkeypatch.delenv("GOOGLE_SERVICE_ACCOUNT")
    for name in CREDENTIALS:
        if value := os.environ.get(name):
            (tmp_path / name).write_text(value)
            monkeypatch.setenv(f"{name}_FILE", str(tmp_path / name))
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("url", "host", "path", "own"),
    [
        ("s3://bucket/x", "s3.eu-central-1.amazonaws.com", "/bucket/x/a.mp4", {}),
        ("gs://bucket/x", "storage.googleapis.com", "/bucket/x/a.mp4", {}),
        (
            "az://bucket/x",
            "account.blob.core.windows.net",
            "/bucket/x/a.mp4",
            {"x-ms-blob-type": "BlockBlob"},
        ),
    ],
)
@pytest.mark.usefixtures("given_clouds")
async def test_upload_is_one_signed_request_with_its_length_and_leaves_no_trace_in_the_log(
    url: str, host: str, path: str, own: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Of a request that breaks off none of the three keeps anything (documented)."""
    caplog.set_level(logging.DEBUG)
    with respx.mock as network:
        route = network.put(host=host, path=path).mock(httpx.Response(201))
        await sent_once(LARGE, url=url)

    [call] = route.calls
    headers = call.request.headers
    expected = {"content-length": str(len(LARGE)), "content-type": "video/mp4", **own}
    assert {name: headers.get(name) for name in expected} == expected
    assert not {"transfer-encoding", "authorization", "cookie"} & headers.keys()
    assert {name for name in headers if name.startswith("x-")} == own.keys()
    assert call.request.content == LARGE
    signed = re.compile("Signature=|sig=")
    assert signed.search(str(call.request.url))
    assert not signed.search(caplog.text)


async def test_missing_extra_is_named_with_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is optional, because few users have a bucket (ours)."""
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.setitem(sys.modules, "obstore.store", None)

    error = await refusal(uploads(), content(SMALL))

    assert error.what == "Storage needs the package obstore, which is not installed."
    assert "pip install 'wan-mcp[storage]'" in error.next_step
    assert not error.retry_safe
    whole(error)


@pytest.mark.parametrize(
    "given", [{}, {"AZURE_STORAGE_ACCOUNT_NAME": "canary", "AZURE_STORAGE_ACCOUNT_KEY": "?"}]
)
async def test_unusable_variables_of_a_cloud_are_named(
    given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are found out before a request (observed)."""
    pytest.importorskip("obstore", reason="the extra storage is not installed")
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(Unavailable) as unusable:
        await ObjectStore("az://container/x", given).look()

    assert "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY" in unusable.value.next_step
    assert "canary" not in whole(unusable.value)


async def test_azure_signs_links_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A link of six hours, with the key of the account (documented)."""
    pytest.importorskip("obstore", reason="the extra storage is not installed")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")

    url = urlsplit(await ObjectStore("az://container/x", os.environ).sign("a.mp4", 21_600))

    assert (url.hostname, url.path) == ("account.blob.core.windows.net", "/container/x/a.mp4")
    assert parse_qs(url.query)["sp"] == ["r"]


@pytest.mark.parametrize(
    ("endpoint", "other", "is_refused"),
    [
        ("http://192.0.2.1:9000", {}, True),
        ("http://192.0.2.1:9000", {"AWS_ALLOW_HTTP": "false"}, True),
        ("http://192.0.2.1:9000", {"AWS_ALLOW_HTTP": "true"}, False),
        ("http://localhost:9000", {}, False),
        ("https://s3.example", {}, False),
        ("", {}, False),
    ],
)
async def test_plain_http_to_another_computer_needs_the_operators_word(
    endpoint: str, other: dict[str, str], is_refused: bool
) -> None:
    """Everybody on the way could read the files (ours)."""
    pytest.importorskip("obstore", reason="the extra storage is not installed")
    one = ObjectStore(URL, {"AWS_ENDPOINT_URL": endpoint, **other})

    if is_refused:
        with pytest.raises(Unavailable) as unusable:
            await one.head("x")
        assert unusable.value.reason is Reason.PLAIN_HTTP
    else:
        one.open()


NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


def temporary(end: str) -> ObjectStore:
    given = {"AWS_SESSION_TOKEN": "canary", "AWS_CREDENTIAL_EXPIRATION": end}
    return ObjectStore(URL, given)


@pytest.mark.parametrize(
    ("end", "seconds"),
    [
        ("2026-11-29T14:30:00Z", 9000),
        ("2026-11-29T14:30:00+00:00", 9000),
        ("2026-11-30T14:30:00Z", 21_600),
        ("", 21_600),
        ("soon", 21_600),
    ],
)
async def test_link_lives_no_longer_than_the_credentials(end: str, seconds: float) -> None:
    """A link that is signed with temporary credentials dies with them (documented)."""
    assert temporary(end).link_seconds(21_600, NOW) == seconds


async def test_credentials_that_end_within_an_hour_are_refused() -> None:
    """PixelDojo may download the files later than that (assumed)."""
    with pytest.raises(Unavailable) as refused:
        temporary("2026-11-29T12:59:00Z").link_seconds(21_600, NOW)

    assert "end within an hour" in refused.value.what
    assert "canary" not in whole(refused.value)


async def test_end_of_credentials_that_are_not_temporary_is_ignored() -> None:
    """The variable may be a rest of other credentials (assumed)."""
    one = ObjectStore(URL, {"AWS_CREDENTIAL_EXPIRATION": "2026-11-29T12:00:00Z"})

    assert one.link_seconds(21_600, NOW) == 21_600


async def test_object_of_another_name_can_be_put_listed_and_deleted(s3: S3) -> None:
    """Finished videos go the same way (ours)."""
    one = store()
    sent: list[int] = []
    digest = hashlib.sha256(SMALL).hexdigest()

    await one.put("videos/ü b.mp4", io.BytesIO(SMALL), len(SMALL), digest, "video/mp4", sent.append)
    listed = [each async for each in one.list("videos")]

    assert [(each.name, each.size) for each in listed] == [("videos/ü b.mp4", len(SMALL))]
    assert abs(listed[0].modified - datetime.now(UTC)) < timedelta(days=1)
    assert sent[-1] == len(SMALL)
    await one.delete("videos/ü b.mp4")
    await one.delete("videos/ü b.mp4")
    assert await one.head("videos/ü b.mp4") is None
    assert s3.objects() == {}


def test_no_asynchronous_call_of_obstore_is_used() -> None:
    """They abort the process when it ends soon after one, as `wan-mcp check` does (observed)."""
    folder = Path(object_store.__file__).parent
    names = re.findall(r"\w+_async\b", "".join(each.read_text() for each in folder.glob("*.py")))

    assert names == []
