"""Secrets in files of their own: what counts as the secret, and what is said about a bad file."""

import logging
import os
from pathlib import Path

import pytest

from wan_mcp.server import build_server
from wan_mcp.settings import BadSettings, Settings, given_settings, is_secret
from wan_mcp.storage.storage_url import CREDENTIALS

SECRET = "pd_canary_7f3a"
KEY = "PIXELDOJO_API_KEY"
KEY_FILE = "PIXELDOJO_API_KEY_FILE"
posix_only = pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with the key, which only its owner can read."""
    path = tmp_path / "key"
    path.write_bytes(f"{SECRET}\n".encode())
    path.chmod(0o600)
    return path


def refusal(given: dict[str, str], folder: Path) -> str:
    with pytest.raises(BadSettings) as refused:
        Settings.read(given, folder)
    message = str(refused.value)
    assert SECRET not in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", CREDENTIALS)
def test_credentials_of_a_cloud_are_read_from_files_by_the_same_rule(file: Path, name: str) -> None:
    """An empty variable is none; a secret that is given twice is refused (ours)."""
    given = {f"{name}_FILE": str(file), name: " "}
    settings = Settings.read(given, file.parent)
    shown = f"{settings!r} {settings} {settings.model_dump_json()}"
    twice = refusal({**given, name: SECRET}, file.parent)
    missing = refusal({f"{name}_FILE": str(file.parent / "no")}, file.parent)

    assert settings.clouds[name] == SECRET
    assert SECRET not in shown
    assert twice == f"{name} and {name}_FILE are both set: remove one of them"
    assert missing.startswith(f"{name}_FILE: the file cannot be read (")


@posix_only
def test_file_of_a_clouds_secret_that_everybody_can_read_is_named(file: Path) -> None:
    """As for every secret in a file (ours)."""
    file.chmod(0o644)

    settings = Settings.read({"AWS_SECRET_ACCESS_KEY_FILE": str(file)}, file.parent)

    assert ["AWS_SECRET_ACCESS_KEY_FILE" in each for each in settings.notices] == [True]


def test_files_that_the_clouds_name_themselves_are_left_to_them(tmp_path: Path) -> None:
    """Amazon and Azure replace the token in such a file while a program runs (documented)."""
    given = {"AWS_WEB_IDENTITY_TOKEN_FILE": "/none", "AZURE_FEDERATED_TOKEN_FILE": "/none"}

    assert Settings.read(given, tmp_path).clouds == given


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_key_is_read_from_its_file_without_the_line_end(file: Path, end: str) -> None:
    """Editors and `echo` add one, and no header can hold it (ours)."""
    file.write_bytes(f"{SECRET}{end}".encode())

    settings = Settings.read({KEY_FILE: str(file)}, file.parent)

    assert settings.api_key.get_secret_value() == SECRET
    assert settings.notices == ()
    assert given_settings({KEY_FILE: str(file)})[KEY].source == f"the file of {KEY_FILE}"


def test_file_may_be_in_the_home_folder_or_named_by_the_file_of_settings(file: Path) -> None:
    """No shell expands a ~ in a host's configuration (ours)."""
    (file.parent / "wan.env").write_text(f"{KEY_FILE}=~/key\n")
    given = {"HOME": str(file.parent), "WAN_MCP_ENV_FILE": "~/wan.env"}

    assert Settings.read(given, file.parent).api_key.get_secret_value() == SECRET


def test_secret_that_is_given_twice_is_refused_with_both_names(file: Path) -> None:
    """Nobody could say which of the two is paid with (ours)."""
    message = refusal({KEY: SECRET, KEY_FILE: str(file)}, file.parent)

    assert message == f"{KEY} and {KEY_FILE} are both set: remove one of them"


def test_env_file_of_a_strangers_project_does_not_replace_the_file_of_the_key(file: Path) -> None:
    """The working directory may belong to anybody (ours)."""
    (file.parent / ".env").write_text(f"{KEY}=pd_of_a_stranger\n")

    settings = Settings.read({KEY_FILE: str(file)}, file.parent)

    assert settings.api_key.get_secret_value() == SECRET


def test_env_file_of_a_strangers_project_names_no_file_of_a_key(file: Path) -> None:
    """Else it could have any file of the user sent as a key (ours)."""
    (file.parent / ".env").write_text(f"{KEY_FILE}={file}\n")

    assert Settings.read({}, file.parent).api_key.get_secret_value() == ""


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "the file is empty"),
        (b"\n", "the file is empty"),
        (b"\xff\xfe", "the file is not UTF-8 text"),
        (f"{SECRET}\n{SECRET}\n".encode(), "contains spaces or characters that no API key has"),
        (b"x" * 1_100_000, "the file cannot be read (too large for a file of settings)"),
    ],
)
def test_file_that_holds_no_secret_is_refused_and_not_repeated(
    file: Path, content: bytes, why: str
) -> None:
    """One line is enough to correct it (ours)."""
    file.write_bytes(content)

    assert refusal({KEY_FILE: str(file)}, file.parent).endswith(f": {why}")


@pytest.mark.parametrize("named", ["missing", "."])
def test_file_that_is_missing_or_a_folder_is_refused_with_the_reason(
    file: Path, named: str
) -> None:
    """A typing error must not start a server without a key (ours)."""
    message = refusal({KEY_FILE: str(file.parent / named)}, file.parent)

    assert message.startswith(f"{KEY_FILE}: the file cannot be read (")


def test_file_of_the_working_folder_is_refused(file: Path) -> None:
    """Hosts start servers in different folders (ours)."""
    assert refusal({KEY_FILE: "key"}, file.parent) == (
        f"{KEY_FILE}: must be a full path or start with ~/"
    )


@pytest.mark.parametrize(
    "name", ["WAN_MCP_LOG_LEVEL_FILE", "PIXELDOJO_API_BASE_FILE", "PIXELDOJO_API_KEYFILE"]
)
def test_only_secrets_have_files_of_their_own(file: Path, name: str) -> None:
    """A misspelt name stops the program, as every other does (ours)."""
    message = refusal({name: str(file)}, file.parent)

    assert message.startswith(f"{name}: there is no such setting")
    assert is_secret(name)


@posix_only
def test_file_that_every_user_can_read_is_used_and_warned_about(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Container platforms mount secrets like this, so it is no reason to refuse (documented)."""
    file.chmod(0o644)
    warning = f"every user of this computer can read the file of {KEY_FILE} (chmod o-r)"

    settings = Settings.read({KEY_FILE: str(file)}, file.parent)
    with caplog.at_level(logging.WARNING):
        build_server(settings)

    assert settings.notices == (warning,)
    assert warning in caplog.text
