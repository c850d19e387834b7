"""Settings, from the environment and an optional .env file.

A file named by WAN_MCP_ENV_FILE may set everything. The `.env` file of the working directory may
only set the API key: a host may start the server inside a project that a stranger wrote, and its
`.env` must neither send the key to another address nor loosen a limit. That file is not read if the
environment has the key, or if WAN_MCP_ENV_FILE names another file. A secret may also be alone in a
file: see `secret_files`.
"""

import difflib
import io
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Self, get_args
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from wan_mcp.settings.environment import ours
from wan_mcp.settings.secret_files import SUFFIX, SecretFile, files_of, read_secret
from wan_mcp.settings.service import ServiceSettings
from wan_mcp.settings.values import (
    Count,
    DayLimit,
    FolderOrURL,
    Folders,
    Limit,
    Port,
    Size,
    Switch,
)
from wan_mcp.storage.data_folder import (
    DataPlaces,
    data_places,
    expanded,
    expanded_list,
    home_folder,
)
from wan_mcp.storage.settings_file import content
from wan_mcp.storage.storage_url import CREDENTIALS, is_storage_url, storage_url
from wan_mcp.web import addresses

API_BASE = "https://pixeldojo.ai/api/v1"
KEY = "PIXELDOJO_API_KEY"
ENV_FILE = "WAN_MCP_ENV_FILE"

_FOLDERS = {"WAN_MCP_DATA_DIR", "WAN_MCP_VIDEO_DIR"}
_PLACES = ("HOME", "SNAP_REAL_HOME", "USERPROFILE", "XDG_DATA_HOME")
"""What `data_folder` reads of the environment."""
_CLOUDS = ("AWS_", "GOOGLE_", "AZURE_")
"""How the variables begin that the clouds' own programs read, and obstore, too."""


class BadSettings(Exception):
    """A setting cannot be used; the text is one line and never contains the value of a secret."""


@dataclass(frozen=True)
class Given:
    """The value of a setting, where that was, and what its owner should mend ("" for nothing)."""

    value: str = field(repr=False)
    source: str
    notice: str = ""


class Settings(ServiceSettings):
    """What the operator decides; no tool argument can change it. More is in `ServiceSettings`.

    Attributes:
        api_key: the key of the PixelDojo account; empty if unset.
        api_base: the root URL of the API; https, or http on this machine (the sandbox).
        log_level: how much is logged to stderr.
        data_dir: the folder of all data, a full path; if unset, one of `data_places`.
        ledger_filesystem: a type of file system, as Linux names it, that may hold the ledger
            although others may share it; unset: only local ones may.
        ledger_url: the address of a PostgreSQL database, with its password; empty: the ledger is a
            file in the folder of all data.
        key_ring: the keys that seal the PixelDojo keys of a team, see `tenants.keys`; empty: none.
        ledger_listen_url: another address of that database, which leads through no pool of
            connections; empty: there is none.
        max_credits_per_job: a more expensive job is refused, and so is one without a known price;
            unset: no limit.
        max_credits_per_day: over a sliding 24 hours, across restarts; always set, and 0 stops all
            purchases.
        max_in_flight: jobs at the same time.
        max_submits_per_minute: paid requests in 60 s.
        max_queued: requests that wait for those two; 0: they refuse instead.
        confirm_above: the user is asked before a job that costs more credits; unset: never.
        preflight: check both inputs before paying; unset: over stdio only.
        archive: save finished videos; unset: over stdio, and wherever `video_dir` is set.
        video_dir: the folder for them, a full path, or the URL of a folder in object storage (then
            it is text); if unset, a folder beside the ledger.
        video_limit_gb: how many 10^9 bytes of videos are kept; none younger than a week is
            deleted; unset: no limit. Only for a folder on a disk.
        input_dirs: folders of possible inputs, and `roots` for the client's; unset: usual ones.
        max_input_mb: how many 10^6 bytes such a file may have.
        poster: show a few frames of a finished video in the answer; unset: over stdio only.
        storage_url: the bucket for files of this computer, as `s3://bucket/prefix`; unset: none.
        public_url: an address on the internet that leads to `public_port` of this machine, without
            a slash at its end; unset: no file is lent.
        public_port: the loopback port at which files are lent.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    api_key: SecretStr = Field(default=SecretStr(""), alias="PIXELDOJO_API_KEY")
    api_base: str = Field(default=API_BASE, alias="PIXELDOJO_API_BASE")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="WARNING", alias="WAN_MCP_LOG_LEVEL"
    )
    data_dir: Path | None = Field(default=None, alias="WAN_MCP_DATA_DIR")
    ledger_filesystem: str | None = Field(default=None, alias="WAN_MCP_LEDGER_FILESYSTEM")
    ledger_url: SecretStr = Field(default=SecretStr(""), alias="WAN_MCP_LEDGER_URL")
    key_ring: SecretStr = Field(default=SecretStr(""), alias="WAN_MCP_KEY_RING")
    ledger_listen_url: SecretStr = Field(default=SecretStr(""), alias="WAN_MCP_LEDGER_LISTEN_URL")
    max_credits_per_job: Limit | None = Field(default=None, alias="WAN_MCP_MAX_CREDITS_PER_JOB")
    max_credits_per_day: DayLimit = Field(default=200, alias="WAN_MCP_MAX_CREDITS_PER_DAY")
    max_in_flight: Count = Field(default=3, alias="WAN_MCP_MAX_IN_FLIGHT")
    max_submits_per_minute: Count = Field(default=6, alias="WAN_MCP_MAX_SUBMITS_PER_MINUTE")
    max_queued: Count = Field(default=20, alias="WAN_MCP_MAX_QUEUED")
    confirm_above: Limit | None = Field(default=None, alias="WAN_MCP_CONFIRM_ABOVE")
    preflight: Switch | None = Field(default=None, alias="WAN_MCP_PREFLIGHT")
    archive: Switch | None = Field(default=None, alias="WAN_MCP_ARCHIVE")
    video_dir: FolderOrURL | None = Field(default=None, alias="WAN_MCP_VIDEO_DIR")
    video_limit_gb: Limit | None = Field(default=None, alias="WAN_MCP_VIDEO_LIMIT_GB")
    input_dirs: Folders | None = Field(default=None, alias="WAN_MCP_INPUT_DIRS")
    max_input_mb: Size = Field(default=500, alias="WAN_MCP_MAX_INPUT_MB")
    poster: Switch | None = Field(default=None, alias="WAN_MCP_POSTER")
    storage_url: str | None = Field(default=None, alias="WAN_MCP_STORAGE_URL")
    public_url: Annotated[str, AfterValidator(addresses.public_base)] | None = Field(
        default=None, alias="WAN_MCP_PUBLIC_URL"
    )
    public_port: Port = Field(default=8799, alias="WAN_MCP_PUBLIC_PORT")
    _environment: dict[str, str] = PrivateAttr(default_factory=dict)
    _clouds: dict[str, str] = PrivateAttr(default_factory=dict)
    _notices: tuple[str, ...] = PrivateAttr(default=())

    @classmethod
    def read(cls, environment: Mapping[str, str], folder: Path | None = None) -> Self:
        """Read the settings from the environment and from files.

        Args:
            environment: the environment of the process; it takes precedence over any file.
            folder: where a `.env` file may be; if left out, the working directory.

        Raises:
            BadSettings: a value is wrong, a file cannot be read, or a WAN_MCP_ or PIXELDOJO_ name
                is misspelt (a misspelt limit must not pass for no limit).
        """
        sources = given_settings(environment, folder)
        given = {name: each.value for name, each in sources.items() if name != ENV_FILE}
        for name in _FOLDERS & {name for name in given if not is_storage_url(given[name])}:
            given[name] = str(expanded(given[name], home_folder(environment)))
        if named := given.get("WAN_MCP_INPUT_DIRS"):
            given["WAN_MCP_INPUT_DIRS"] = expanded_list(named, home_folder(environment))
        if unknown := sorted(given.keys() - _names()):
            raise BadSettings(_unknown(unknown[0]))
        try:
            settings = cls.model_validate(given)
        except ValidationError as exc:
            error = exc.errors(include_url=False, include_input=False)[0]
            raise BadSettings(
                f"{error['loc'][0]}: {error['msg'].removeprefix('Value error, ')}"
            ) from None
        settings._environment = {n: environment[n] for n in _PLACES if n in environment}
        clouds = {n: v for n, v in environment.items() if n.startswith(_CLOUDS) and v.strip()}
        secrets = _in_files(CREDENTIALS, clouds, home_folder(environment))
        settings._clouds = clouds | {name: each.value for name, each in secrets.items()}
        notices = [*(each.notice for each in sources.values())]
        notices += [each.notice for each in secrets.values()]
        settings._notices = tuple(filter(None, notices))
        return settings

    @property
    def notices(self) -> tuple[str, ...]:
        """What the operator should mend although the settings can be used, a clause each."""
        return self._notices

    @property
    def clouds(self) -> Mapping[str, str]:
        """The variables of the clouds, some of them secret, for the storage of `storage_url`.

        A secret that a variable NAME_FILE leads to is here under NAME, as if it had been given so.
        """
        return self._clouds

    @property
    def home(self) -> Path | None:
        """What `~` means; None if the user has no home folder."""
        return home_folder(self._environment)

    @property
    def data_places(self) -> DataPlaces:
        """Where everything that must outlive the process may lie if `data_dir` is unset."""
        return data_places(self._environment)

    def wants(self, switch: Literal["preflight", "archive", "poster"], *, local: bool) -> bool:
        """Whether something is on: as the operator has set it, otherwise where the caller needs it.

        Args:
            local: whether the caller is on this machine.
        """
        setting: bool | None = getattr(self, switch)
        if setting is None:
            return local or (switch == "archive" and self.video_dir is not None)
        return setting

    def video_folder(self, data: Path | None, *, local: bool) -> Path | str | None:
        """Where finished videos are saved, a folder or the URL of one; None for nowhere.

        Args:
            data: the folder of all data, which the ledger has chosen.
            local: whether the caller is on this machine.
        """
        if not self.wants("archive", local=local):
            return None
        return self.video_dir or (data and data / "films")

    @property
    def on_loopback(self) -> bool:
        """Whether the API is on this machine, as the sandbox is."""
        return addresses.is_loopback(urlsplit(self.api_base).hostname or "")

    @field_validator("api_key")
    @classmethod
    def _is_header_safe(cls, key: SecretStr) -> SecretStr:
        if not re.fullmatch(r"[!-~]*", key.get_secret_value()):
            raise ValueError("contains spaces or characters that no API key has")
        return key

    @field_validator("api_base")
    @classmethod
    def _is_safe_address(cls, base: str) -> str:
        # urlsplit drops tabs and newlines and accepts a backslash in the host, so for such a text
        # it names another host than the one that would be connected to.
        parts = urlsplit(base) if re.fullmatch(r"[!-~]+", base) else urlsplit("")
        if re.search(r"[?#@\\]", base) or not parts.hostname or not _port_is_valid(parts):
            raise ValueError("must be a plain https:// address")
        local = parts.scheme == "http" and addresses.is_loopback(parts.hostname)
        if parts.scheme != "https" and not local:
            raise ValueError("must start with https:// (http:// only on this machine)")
        if not parts.path.strip("/"):  # the web site, which does not know the jobs of the API
            raise ValueError(f"must be the whole address of the API, such as {API_BASE}")
        return base.rstrip("/")

    @field_validator("ledger_url", "ledger_listen_url")
    @classmethod
    def _is_postgres(cls, url: SecretStr) -> SecretStr:
        if not re.match(r"postgres(ql)?://", url.get_secret_value()):
            raise ValueError("must start with postgresql://")
        return url

    @field_validator("data_dir", "video_dir")
    @classmethod
    def _is_absolute(cls, folder: Path | str | None) -> Path | str | None:
        # Hosts start servers in different folders: with two ledgers a job could be paid twice.
        if isinstance(folder, Path) and not folder.is_absolute():
            raise ValueError(
                "must be a full path or start with ~/ (a relative one would be another ledger in "
                "every working folder, and a job could be paid twice)"
            )
        return folder

    @field_validator("video_limit_gb")
    @classmethod
    def _is_for_a_disk(cls, limit: float | None, known: ValidationInfo) -> float | None:
        if limit is not None and isinstance(known.data.get("video_dir"), str):
            why = "is for a folder on a disk; in storage a rule of the bucket deletes old videos"
            raise ValueError(why)
        return limit

    @field_validator("storage_url")
    @classmethod
    def _is_storage(cls, url: str | None) -> str | None:
        return url and storage_url(url)

    @field_validator("log_level", mode="before")
    @classmethod
    def _uppercase(cls, level: str) -> str:
        return level.upper()


def given_settings(environment: Mapping[str, str], folder: Path | None = None) -> dict[str, Given]:
    """Every setting that is given, by its name, the misspelt ones included.

    Args:
        environment, folder: as for `Settings.read`.

    Raises:
        BadSettings: a file cannot be read, or a secret is given twice.
    """
    own, home = ours(environment), home_folder(environment)
    read, source = _from_files(own, folder or Path(), home)
    given = {name: Given(value, source) for name, value in read.items()}
    given |= {name: Given(value, "the environment") for name, value in own.items()}
    secrets = _in_files(secret_names(), {name: each.value for name, each in given.items()}, home)
    for name, (value, notice) in secrets.items():
        given[name] = Given(value, f"the file of {name}{SUFFIX}", notice)
        del given[name + SUFFIX]
    return given


def is_secret(name: str) -> bool:
    """Whether the value of a setting must not be shown; yes for an unknown one."""
    return name in secret_names() or name not in _names() | {ENV_FILE}


def secret_names() -> set[str]:
    """The settings whose values must not be shown."""
    fields = Settings.model_fields.values()
    types = {str(each.alias): (each.annotation, *get_args(each.annotation)) for each in fields}
    return {name for name, choices in types.items() if SecretStr in choices}


def _names() -> set[str]:
    return {str(field.alias) for field in Settings.model_fields.values()}


def _in_files(
    names: Collection[str], given: Mapping[str, str], home: Path | None
) -> dict[str, SecretFile]:
    """The secrets that are given by files, which are read."""
    try:
        files = files_of(names, given)
        return {name: read_secret(name, path, home) for name, path in files.items()}
    except ValueError as exc:
        raise BadSettings(str(exc)) from None


def _port_is_valid(parts: SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:
        return False


def _from_files(
    given: Mapping[str, str], folder: Path, home: Path | None
) -> tuple[dict[str, str], str]:
    """What a file adds, and which file that is."""
    if path := given.get(ENV_FILE):
        named = _file(expanded(path, home), ENV_FILE)
        if named is None:
            raise BadSettings(f"{ENV_FILE}: there is no such file")
        return named, f"the file of {ENV_FILE}"
    beside = (
        {}
        if {KEY, KEY + SUFFIX} & given.keys()
        else _file(folder / ".env", "the .env file of this folder")
    )
    return {n: v for n, v in (beside or {}).items() if n == KEY}, "the .env file of this folder"


def _file(path: Path, description: str) -> dict[str, str] | None:
    """Our settings in a .env file; None if it does not exist."""
    try:
        if not path.exists() or path.is_dir():
            return None
        from dotenv import dotenv_values  # imported late, because few users have a file

        # -sig: Notepad writes a byte order mark, which would become part of the first name.
        text = content(path).decode("utf-8-sig")
        return ours(dotenv_values(stream=io.StringIO(text), interpolate=False))
    except (OSError, UnicodeDecodeError):
        raise BadSettings(
            f"{description}: the file cannot be read (it must be UTF-8 text)"
        ) from None


def _unknown(name: str) -> str:
    known = _names() | {ENV_FILE} | {each + SUFFIX for each in secret_names()}
    near = difflib.get_close_matches(name, known, n=1)
    return f"{name}: there is no such setting" + (f" (did you mean {near[0]}?)" if near else "")
