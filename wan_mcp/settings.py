"""Settings, from the environment and an optional .env file.

A file named by WAN_MCP_ENV_FILE may set everything. The `.env` file of the working directory may
only set the API key: a host may start the server inside a project that a stranger wrote, and its
`.env` must neither send the key to another address nor loosen a limit. That file is not read if the
environment has the key, or if WAN_MCP_ENV_FILE names another file.
"""

import difflib
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
)

from wan_mcp.storage.data_folder import (
    DataPlaces,
    data_places,
    expanded,
    expanded_list,
    home_folder,
    listed_folders,
)
from wan_mcp.storage.settings_file import content
from wan_mcp.storage.storage_url import folder_or_url, is_storage_url, storage_url
from wan_mcp.web import addresses

API_BASE = "https://pixeldojo.ai/api/v1"
KEY = "PIXELDOJO_API_KEY"
ENV_FILE = "WAN_MCP_ENV_FILE"

_QUOTES = ('""', "''", "\u201c\u201d", "\u2018\u2019")
_FOLDERS = {"WAN_MCP_DATA_DIR", "WAN_MCP_VIDEO_DIR"}
_PLACES = ("HOME", "SNAP_REAL_HOME", "USERPROFILE", "XDG_DATA_HOME")
"""What `data_folder` reads of the environment."""
_CLOUDS = ("AWS_", "GOOGLE_", "AZURE_")
"""How the variables begin that the clouds' own programs read, and obstore, too."""


def _on_or_off(value: object) -> bool:
    word = str(value).lower()
    if word not in ("on", "off", "true", "false", "1", "0"):
        raise ValueError("must be on or off")
    return word in ("on", "true", "1")


def _must_be(allowed: str) -> WrapValidator:
    """Says what is allowed, in plain words instead of pydantic's."""

    def read(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise ValueError(f"must be {allowed}") from None

    return WrapValidator(read)


_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Limit = Annotated[_Amount, _must_be("a number, 0 or more (for no limit leave it out)")]
# Never None: a limit that a typing error could remove would not be a limit.
DayLimit = Annotated[
    _Amount, _must_be("a number, 0 or more (a high one, as 100000, lifts the limit)")
]
Count = Annotated[int, Field(ge=0), _must_be("a whole number, 0 or more")]
Size = Annotated[_Amount, _must_be("a number of MB, 0 or more")]
Port = Annotated[int, Field(ge=1, le=65_535), _must_be("a port from 1 to 65535")]
Folders = Annotated[tuple[str, ...], BeforeValidator(listed_folders)]
Switch = Annotated[bool, BeforeValidator(_on_or_off)]
FolderOrURL = Annotated[Path | str, BeforeValidator(folder_or_url)]


class BadSettings(Exception):
    """A setting cannot be used; the text is one line and never contains the value of a secret."""


@dataclass(frozen=True)
class Given:
    """The value of a setting as it was written, and where that was."""

    value: str = field(repr=False)
    source: str


class Settings(BaseModel):
    """What the operator decides; no tool argument can change it.

    Attributes:
        api_key: the key of the PixelDojo account; empty if unset.
        api_base: the root URL of the API; https, or http on this machine (the sandbox).
        log_level: how much is logged to stderr.
        data_dir: the folder of all data, a full path; if unset, one of `data_places`.
        ledger_filesystem: a type of file system, as Linux names it, that may hold the ledger
            although others may share it; unset: only local ones may.
        ledger_url: the address of a PostgreSQL database, with its password; empty: the ledger is a
            file in the folder of all data.
        max_credits_per_job: a more expensive job is refused, and so is one without a known price;
            unset: no limit.
        max_credits_per_day: over a sliding 24 hours, across restarts; always set, and 0 stops all
            purchases.
        max_in_flight: jobs at the same time.
        max_submits_per_minute: paid requests in 60 s; `max_queued` may wait for it and the last.
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
        given = {name: each.value for name, each in given_settings(environment, folder).items()}
        given.pop(ENV_FILE, None)
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
            raise BadSettings(f"{error['loc'][0]}: {_plain(error['msg'])}") from None
        settings._environment = {n: environment[n] for n in _PLACES if n in environment}
        settings._clouds = {n: v for n, v in environment.items() if n.startswith(_CLOUDS)}
        return settings

    @property
    def clouds(self) -> Mapping[str, str]:
        """The variables of the clouds, some of them secret, for the storage of `storage_url`."""
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

    @field_validator("ledger_url")
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
        BadSettings: a file cannot be read.
    """
    own = _ours(environment)
    read, source = _from_files(own, folder or Path(), home_folder(environment))
    given = {name: Given(value, source) for name, value in read.items()}
    return given | {name: Given(value, "the environment") for name, value in own.items()}


def is_secret(name: str) -> bool:
    """Whether the value of a setting must not be shown; yes for an unknown one."""
    types = (each.annotation for each in Settings.model_fields.values() if each.alias == name)
    return name != ENV_FILE and all(each is SecretStr for each in types)


def _names() -> set[str]:
    return {str(field.alias) for field in Settings.model_fields.values()}


def _port_is_valid(parts: SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:
        return False


def _ours(values: Mapping[str, str | None]) -> dict[str, str]:
    """Our names only. A blank value, or a literal ${...} that a bundle passes for it, is unset."""
    named = {name: _bare(value or "") for name, value in values.items() if _is_ours(name)}
    return {
        name: value
        for name, value in named.items()
        if value and not _is_placeholder(value) and not _is_service_link(name, value)
    }


def _bare(value: str) -> str:
    """Without outer spaces, and without the quotes that `docker --env-file` takes as written."""
    value = value.strip()
    quoted = len(value) > 1 and value[0] + value[-1] in _QUOTES
    return value[1:-1].strip() if quoted else value


def _is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes has set it for a service whose name begins like ours (documented)."""
    if re.fullmatch(r"[A-Z_]+_SERVICE_(HOST|PORT(_\w+)?)", name):
        return True
    link = re.search(r"_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$", name)
    return link is not None and (link[1] is not None or "://" in value)


def _is_ours(name: str) -> bool:
    # Other programs may use PIXELDOJO_ too: only a name close to one of ours is a mistake.
    rest = name.startswith("PIXELDOJO_") and name.removeprefix("PIXELDOJO_")
    near = rest and difflib.get_close_matches(rest, ("API_KEY", "API_BASE"))
    return name.startswith("WAN_MCP_") or bool(near)


def _is_placeholder(value: str) -> bool:
    return re.fullmatch(r"\$\{[^}]*\}", value) is not None


def _from_files(
    given: Mapping[str, str], folder: Path, home: Path | None
) -> tuple[dict[str, str], str]:
    """What a file adds, and which file that is."""
    if path := given.get(ENV_FILE):
        named = _file(expanded(path, home), ENV_FILE)
        if named is None:
            raise BadSettings(f"{ENV_FILE}: there is no such file")
        return named, f"the file of {ENV_FILE}"
    beside = {} if KEY in given else _file(folder / ".env", "the .env file of this folder")
    return {n: v for n, v in (beside or {}).items() if n == KEY}, "the .env file of this folder"


def _file(path: Path, description: str) -> dict[str, str] | None:
    """Our settings in a .env file; None if it does not exist."""
    try:
        if not path.exists() or path.is_dir():
            return None
        from dotenv import dotenv_values  # imported late, because few users have a file

        # -sig: Notepad writes a byte order mark, which would become part of the first name.
        text = content(path).decode("utf-8-sig")
        return _ours(dotenv_values(stream=io.StringIO(text), interpolate=False))
    except (OSError, UnicodeDecodeError):
        raise BadSettings(
            f"{description}: the file cannot be read (it must be UTF-8 text)"
        ) from None


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, _names() | {ENV_FILE}, n=1)
    return f"{name}: there is no such setting" + (f" (did you mean {near[0]}?)" if near else "")


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ")
