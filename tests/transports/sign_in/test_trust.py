"""The operator's file: what it may say, and what is said about mistakes in it."""

import re
from pathlib import Path

import pytest

from wan_mcp.transports.sign_in.trust import read_trust

SECRET = "the-secret-of-the-server"
WHOLE = f"""
resource = "https://wan.example.com/team/mcp/"
scope_prefix = "api://wan/"

[[issuers]]
issuer = "https://login.example.com/"
audiences = ["api://wan"]
algorithms = ["ES256"]
jwks_uri = "https://login.example.com/keys"

[[issuers]]
issuer = "http://127.0.0.1:9000"
introspection = {{ client_id = "wan", client_secret = "{SECRET}" }}
"""
BEGIN = 'resource = "https://wan.example.com/mcp"\n'
ISSUER = '[[issuers]]\nissuer = "https://a.example"\n'
ON_PAGE = 'key_page = { client_id = "a" }\n'
ASKED = 'introspection = { client_id = "a", client_secret = "b" }\n'


def written(folder: Path, text: str | bytes) -> Path:
    file = folder / "sign-in.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    trust = read_trust(written(tmp_path, WHOLE))

    assert trust.resource == "https://wan.example.com/team/mcp"
    assert trust.metadata_path == "/.well-known/oauth-protected-resource/team/mcp"
    assert trust.metadata_url == f"https://wan.example.com{trust.metadata_path}"
    assert trust.host == "wan.example.com"
    assert trust.site == "https://wan.example.com/team"
    assert [each.issuer for each in trust.issuers] == [
        "https://login.example.com/",
        "http://127.0.0.1:9000",
    ]
    assert SECRET not in repr(trust)


@pytest.mark.parametrize(
    ("written_as", "sent"),
    [
        ("https://Wan.Example.com:443/mcp", "wan.example.com"),
        ("https://wan.example.com:8443/mcp", "wan.example.com:8443"),
        ("http://LOCALHOST:80/mcp", "localhost"),
    ],
)
def test_host_is_what_browsers_send(tmp_path: Path, written_as: str, sent: str) -> None:
    """They leave out the usual port, and send small letters (documented)."""
    trust = read_trust(written(tmp_path, f'resource = "{written_as}"\n{ISSUER}'))

    assert trust.host == sent


WRONG = {
    "": "resource: Field required",
    BEGIN: "issuers: Field required",
    f"{BEGIN}issuers = []": "issuers: Tuple should have at least 1 item",
    f"{BEGIN}{ISSUER}{ISSUER}": "it: names an issuer twice",
    f"{BEGIN}{ISSUER}{ASKED}{ISSUER.replace('a.e', 'b.e')}{ASKED}": "it: has introspection for",
    f"{BEGIN}colour = 1\n{ISSUER}": "colour: Extra inputs are not permitted",
    f"{BEGIN}{ISSUER}algorithms = ['HS256']": "issuers.0.algorithms.0: Input should be 'RS256'",
    f"{BEGIN}{ISSUER}algorithms = ['none']": "issuers.0.algorithms.0: Input should be 'RS256'",
    f"{BEGIN}{ISSUER}jwks_uri = 'http://a.example'": "jwks_uri: must begin with https://",
    f"{BEGIN}{ISSUER}{ASKED.replace('b', '')}": "client_secret: Value should have at least 1",
    f"{BEGIN}[[issuers]]\nissuer = 'http://a.example'": "issuers.0.issuer: must begin with https",
    f"{BEGIN}[[issuers]]\nissuer = 'https://a@b.c'": "issuers.0.issuer: must be a plain https://",
    f"{BEGIN}[[issuers]]\nissuer = 'https://b.c?d'": "issuers.0.issuer: must be a plain https://",
    f"resource = 'https://a.example'\n{ISSUER}": "resource: must be the public address",
    f"resource = 'https://a.example/token/mcp'\n{ISSUER}": "resource: must be the public address",
    f"resource = 'http://a.example/mcp'\n{ISSUER}": "resource: must begin with https://",
    f"{BEGIN}{ISSUER}{ON_PAGE.replace(chr(34) + 'a', chr(34))}": "client_id: String should have",
    f"{BEGIN}{ISSUER}key_page = {{ client_secret_file = '/a' }}": "key_page.client_id: Field req",
    f"{BEGIN}{ISSUER}key_page = {{ client_id = 'a', client_secret = '{SECRET}' }}": (
        "issuers.0.key_page.client_secret: Extra inputs are not permitted"
    ),
    f"{BEGIN}{ISSUER}key_page = {{ client_id = 'a', client_secret_file = 'b' }}": (
        "issuers.0.key_page.client_secret_file: must be the full path of a file"
    ),
    f'{BEGIN}scope_prefix = "a\\"b"\n{ISSUER}': "scope_prefix: String should match pattern",
    f"secret = {SECRET}": "the file is not TOML in UTF-8",
}


def test_the_file_of_the_page_is_one_with_everything_in_it(tmp_path: Path) -> None:
    """Also with the lines that are commented out there (ours)."""
    page = Path(__file__).parents[3] / "docs" / "teams.md"
    (shown,) = re.findall(r"^```toml\n(.*?)^```$", page.read_text("utf-8"), re.S | re.M)
    given = re.sub(r"^# ", "", shown, flags=re.M).replace("https://…", "https://a.example/keys")
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    given = given.replace("/etc/wan-mcp/key-page-secret", str(tmp_path / "secret"))

    assert read_trust(written(tmp_path, shown)).resource == "https://wan.example.com/mcp"
    (issuer,) = read_trust(written(tmp_path, given)).issuers
    assert issuer.introspection is not None
    assert issuer.jwks_uri == "https://a.example/keys"
    assert issuer.key_page is not None
    assert issuer.key_page.client_secret is not None
    assert issuer.key_page.client_secret.get_secret_value() == SECRET
    assert SECRET not in repr(issuer)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot be read (No such file"),
        (b"", "is empty, or has more than one line"),
        (b"\n", "is empty, or has more than one line"),
        (f"{SECRET}\n{SECRET}".encode(), "is empty, or has more than one line"),
        (b"\xff", "is not UTF-8 text"),
    ],
)
def test_file_of_a_secret_that_cannot_be_used_is_named_without_its_content(
    tmp_path: Path, content: bytes | None, why: str
) -> None:
    """(ours)"""
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    page = f'key_page = {{ client_id = "a", client_secret_file = "{tmp_path}/secret" }}\n'
    with pytest.raises(ValueError, match=r"^[^\n]*$") as refused:
        read_trust(written(tmp_path, f"{BEGIN}{ISSUER}{page}"))

    assert "issuers.0.key_page.client_secret_file: the file" in str(refused.value)
    assert why in str(refused.value)
    assert SECRET not in str(refused.value)


def test_people_see_the_host_of_an_issuer_or_all_of_its_address_where_hosts_are_equal(
    tmp_path: Path,
) -> None:
    """Two buttons with one name would be a guess (ours)."""
    addresses = ("https://a.example/", "https://b.example/one", "https://b.example/two/")
    issuers = [f'[[issuers]]\nissuer = "{each}"\n{ON_PAGE}' for each in addresses]
    trust = read_trust(written(tmp_path, f"{BEGIN}{''.join(issuers)}{ISSUER.replace('a.', 'c.')}"))

    names = ("a.example", "b.example/one", "b.example/two")
    assert trust.key_issuers == dict(zip(addresses, names, strict=True))


@pytest.mark.parametrize("text", WRONG)
def test_a_mistake_is_named_without_any_value(tmp_path: Path, text: str) -> None:
    """The values may be secrets (ours)."""
    with pytest.raises(ValueError, match=r"^[^\n]*$") as refused:
        read_trust(written(tmp_path, text))

    assert WRONG[text] in str(refused.value)
    assert SECRET not in str(refused.value)


def test_a_file_that_is_missing_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot be read \(No such file"):
        read_trust(tmp_path / "missing")
    with pytest.raises(ValueError, match="not TOML in UTF-8"):
        read_trust(written(tmp_path, b"\xff\xfe"))
