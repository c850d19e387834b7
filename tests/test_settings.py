"""Settings: where a value comes from, and what is refused before anything starts."""

import os
import threading
from pathlib import Path

import pytest

from wan_mcp.settings import API_BASE, BadSettings, Settings

SECRET = "pd_canary_7f3a"
BASE = "PIXELDOJO_API_BASE"
KEY = "PIXELDOJO_API_KEY"


def key(settings: Settings) -> str:
    return settings.api_key.get_secret_value()


def refusal(environment: dict[str, str], folder: Path) -> str:
    with pytest.raises(BadSettings) as refused:
        Settings.read(environment, folder)
    return str(refused.value)


def test_nothing_set_gives_the_public_api_and_no_key(tmp_path: Path) -> None:
    """The server starts without a key (ours); the address is PixelDojo's (documented)."""
    settings = Settings.read({}, tmp_path)

    assert (settings.api_base, key(settings), settings.log_level) == (API_BASE, "", "WARNING")
    assert not settings.on_loopback


def test_environment_gives_every_setting(tmp_path: Path) -> None:
    """The environment is where hosts put settings (ours)."""
    environment = {KEY: SECRET, BASE: "https://proxy.example/v1/", "WAN_MCP_LOG_LEVEL": "debug"}

    settings = Settings.read(environment, tmp_path)

    assert key(settings) == SECRET
    assert settings.api_base == "https://proxy.example/v1"
    assert settings.log_level == "DEBUG"


@pytest.mark.parametrize("value", ["", "  ", "${user_config.key}", "${input:key}", "${env:KEY}"])
@pytest.mark.parametrize("name", [KEY, BASE, "WAN_MCP_LOG_LEVEL", "WAN_MCP_ENV_FILE"])
def test_blank_or_literal_placeholder_counts_as_unset(
    name: str, value: str, tmp_path: Path
) -> None:
    """Bundles pass `${...}` unchanged for a field that was left blank (observed elsewhere)."""
    assert Settings.read({name: value}, tmp_path) == Settings.read({}, tmp_path)


def test_other_programs_variables_are_ignored(tmp_path: Path) -> None:
    """We check only names with our own prefix and with PixelDojo's (ours)."""
    environment = {"PATH": "/bin", "PIXEL_TEAM": "x", "WANDB": "y"}

    assert Settings.read(environment, tmp_path) == Settings.read({}, tmp_path)


def test_folder_env_file_gives_only_the_key(tmp_path: Path) -> None:
    """A stranger's project must not redirect the key or loosen a limit (ours)."""
    hostile = f"{KEY}={SECRET}\n{BASE}=https://evil.example\nWAN_MCP_LOG_LEVEL=DEBUG\n"
    (tmp_path / ".env").write_text(hostile + "WAN_MCP_UNHEARD_OF=1\n")

    settings = Settings.read({}, tmp_path)

    assert key(settings) == SECRET
    assert (settings.api_base, settings.log_level) == (API_BASE, "WARNING")


def test_working_directory_is_the_folder_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hosts start the server in a folder of their choice (ours)."""
    (tmp_path / ".env").write_text(f"{KEY}={SECRET}\n")
    monkeypatch.chdir(tmp_path)

    assert key(Settings.read({})) == SECRET


@pytest.mark.parametrize("named", [True, False])
def test_environment_wins_over_any_file(named: bool, tmp_path: Path) -> None:
    """The host's configuration is the most specific one (ours)."""
    file = tmp_path / ("named.env" if named else ".env")
    file.write_text(f"{KEY}=pd_from_file\n")
    environment = {KEY: SECRET} | ({"WAN_MCP_ENV_FILE": str(file)} if named else {})

    assert key(Settings.read(environment, tmp_path)) == SECRET


def test_unreadable_folder_env_file_is_not_opened_when_the_key_is_given(tmp_path: Path) -> None:
    """Another project's broken file must not stop the server (ours)."""
    (tmp_path / ".env").write_bytes(b"\xff\xfe\x00")

    assert key(Settings.read({KEY: SECRET}, tmp_path)) == SECRET


def test_named_file_gives_every_setting_and_hides_the_folders(tmp_path: Path) -> None:
    """A user who names a file trusts it (ours)."""
    (tmp_path / ".env").write_text(f"{KEY}=pd_from_folder\n")
    named = tmp_path / "my settings.env"
    named.write_text(f"export {BASE}='https://proxy.example/v1'\nWAN_MCP_LOG_LEVEL=info\nOTHER=1\n")

    settings = Settings.read({"WAN_MCP_ENV_FILE": str(named)}, tmp_path)

    assert (settings.api_base, settings.log_level) == ("https://proxy.example/v1", "INFO")
    assert key(settings) == ""


HOME = "HOME" if os.name == "posix" else "USERPROFILE"


def test_named_file_may_lie_in_the_home_folder(tmp_path: Path) -> None:
    """No shell expands a ~ in a host's configuration (ours)."""
    (tmp_path / "wan.env").write_text(f"{KEY}={SECRET}\n")
    given = {HOME: str(tmp_path), "WAN_MCP_ENV_FILE": "~/wan.env"}

    assert key(Settings.read(given, tmp_path)) == SECRET


DATA = "WAN_MCP_DATA_DIR"
INPUT_DIRS = "WAN_MCP_INPUT_DIRS"


@pytest.mark.parametrize("in_file", [True, False])
def test_data_folder_may_lie_in_the_home_folder(in_file: bool, tmp_path: Path) -> None:
    """No shell expands a ~ in a host's configuration or in a file (ours)."""
    given = {DATA: "~/films"}
    if in_file:
        (tmp_path / "wan.env").write_text(f"{DATA}=~/films\n")
        given = {"WAN_MCP_ENV_FILE": "~/wan.env"}

    assert Settings.read({HOME: str(tmp_path), **given}).data_dir == tmp_path / "films"


@pytest.mark.parametrize("in_file", [True, False])
@pytest.mark.parametrize("path", ["data", "./data", "../data", "~nobody_has_this_name/data"])
def test_data_folder_that_depends_on_the_working_one_is_refused(
    path: str, in_file: bool, tmp_path: Path
) -> None:
    """Hosts start servers in different folders: two ledgers would pay twice (ours)."""
    given = {DATA: path}
    if in_file:
        (tmp_path / "wan.env").write_text(f"{DATA}={path}\n")
        given = {"WAN_MCP_ENV_FILE": str(tmp_path / "wan.env")}

    message = refusal(given, tmp_path)

    assert message.startswith(f"{DATA}: must be a full path or start with ~/ (a relative one ")
    assert path not in message


def test_values_in_a_file_are_taken_literally(tmp_path: Path) -> None:
    """A file must not copy other variables into an address (ours)."""
    (tmp_path / ".env").write_text(f"{KEY}=pd_${{HOME}}\n")

    assert key(Settings.read({}, tmp_path)) == "pd_${HOME}"


def test_byte_order_mark_before_the_first_name_is_skipped(tmp_path: Path) -> None:
    """Notepad writes one (observed elsewhere)."""
    (tmp_path / ".env").write_text(f"{KEY}={SECRET}\n", encoding="utf-8-sig")

    assert key(Settings.read({}, tmp_path)) == SECRET


def test_missing_named_file_is_refused(tmp_path: Path) -> None:
    """Otherwise a missing file would mean that there are no limits (ours)."""
    message = refusal({"WAN_MCP_ENV_FILE": str(tmp_path / "gone.env")}, tmp_path)

    assert message == "WAN_MCP_ENV_FILE: there is no such file"


@pytest.mark.parametrize("content", [b"\xff\xfeP\x00I\x00", b"PIXELDOJO_API_KEY=\xff\xfe"])
def test_file_that_is_not_utf8_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    """PowerShell's `>` writes UTF-16 (observed elsewhere)."""
    (tmp_path / ".env").write_bytes(content)

    assert refusal({}, tmp_path).startswith("the .env file of this folder: ")
    named = {"WAN_MCP_ENV_FILE": str(tmp_path / ".env")}
    assert refusal(named, tmp_path).startswith("WAN_MCP_ENV_FILE: ")


def test_path_no_file_can_have_is_refused_in_words(tmp_path: Path) -> None:
    """The system's error for a name that is too long must not become a traceback (ours)."""
    message = refusal({"WAN_MCP_ENV_FILE": "x" * 5_000}, tmp_path)

    assert message.startswith("WAN_MCP_ENV_FILE: the file cannot be read")


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("WAN_MCP_LOGLEVEL", "WAN_MCP_LOG_LEVEL"),
        ("WAN_MCP_LOG_LVL", "WAN_MCP_LOG_LEVEL"),
        ("WAN_MCP_ENVFILE", "WAN_MCP_ENV_FILE"),
        ("PIXELDOJO_APIKEY", "PIXELDOJO_API_KEY"),
        ("PIXELDOJO_KEY", "PIXELDOJO_API_KEY"),
        ("PIXELDOJO_BASE", "PIXELDOJO_API_BASE"),
    ],
)
def test_misspelt_name_is_refused_with_the_nearest(
    misspelt: str, meant: str, tmp_path: Path
) -> None:
    """A misspelt limit must not mean no limit, nor a misspelt key no key (ours)."""
    message = refusal({misspelt: "1"}, tmp_path)

    assert message == f"{misspelt}: there is no such setting (did you mean {meant}?)"


@pytest.mark.parametrize("name", ["PIXELDOJO_TOKEN", "PIXELDOJO_OUTPUT_FOLDER", "PIXELDOJO_MODEL"])
def test_a_name_of_another_program_does_not_stop_the_server(name: str, tmp_path: Path) -> None:
    """Other programs may use PixelDojo's prefix, too (assumed)."""
    settings = Settings.read({name: "x", KEY: "pd_key"}, tmp_path)

    assert settings.api_key.get_secret_value() == "pd_key"


def test_misspelt_name_in_a_named_file_is_refused_too(tmp_path: Path) -> None:
    """A file is checked as strictly as the environment (ours)."""
    (tmp_path / "named.env").write_text("WAN_MCP_9Z9Z9Z=1\n")

    message = refusal({"WAN_MCP_ENV_FILE": str(tmp_path / "named.env")}, tmp_path)

    assert message == "WAN_MCP_9Z9Z9Z: there is no such setting"


@pytest.mark.parametrize(
    "base",
    [
        "http://127.0.0.1:8788/api/v1",
        "http://localhost:8788/api/v1",
        "http://[::1]:8788/api/v1",
        "https://127.0.0.1/api/v1",
    ],
)
def test_plain_http_is_accepted_on_this_machine(base: str, tmp_path: Path) -> None:
    """The sandbox has no certificate (ours)."""
    settings = Settings.read({BASE: base}, tmp_path)

    assert settings.api_base == base
    assert settings.on_loopback


@pytest.mark.parametrize(
    "base",
    [
        "http://pixeldojo.ai/api/v1",
        "http://127.0.0.1.evil.example/api/v1",
        "http://192.168.0.2/api/v1",
        "http://0.0.0.0/api/v1",
        "ftp://pixeldojo.ai",
        "file:///etc/passwd",
    ],
)
def test_plain_http_elsewhere_is_refused(base: str, tmp_path: Path) -> None:
    """The key would be sent in plain text (ours)."""
    assert refusal({BASE: base}, tmp_path).startswith(f"{BASE}: must ")


@pytest.mark.parametrize(
    "base",
    [
        "pixeldojo.ai/api/v1",
        "https://",
        "https:///api/v1",
        "https://user:pd_canary_7f3a@pixeldojo.ai",
        "https://pixeldojo.ai/api?key=pd_canary_7f3a",
        "https://pixeldojo.ai/api?",
        "https://pixeldojo.ai/api#pd_canary_7f3a",
        "https://evil.example\\.pixeldojo.ai/api",
        "https://pixeldojo.ai/a\tpi",
        "https://pixeldojo.ai/a\npd_canary_7f3a",
        "https://pixeldojo.ai /api",
        "https://pixeldojo.ai:0/api",
        "https://pixeldojo.ai:99999/api",
        "https://pixeldojo.ai:eight/api",
        "https://[::1/api",
        "https://pixeld\u043ej\u043e.ai/api",
    ],
)
def test_address_that_is_not_plain_is_refused_and_not_repeated(base: str, tmp_path: Path) -> None:
    """An address may contain a secret, and parsers may disagree about its host (ours)."""
    message = refusal({BASE: base}, tmp_path)

    assert message.startswith(f"{BASE}: ")
    assert SECRET not in message
    assert "\n" not in message


@pytest.mark.parametrize("local", [True, False])
def test_videos_may_go_to_object_storage(tmp_path: Path, local: bool) -> None:
    """Over HTTP, too, where no caller could use a folder of the server (ours)."""
    settings = Settings.read({"WAN_MCP_VIDEO_DIR": "s3://bucket/my/videos/"}, tmp_path)

    assert settings.video_folder(tmp_path, local=local) == "s3://bucket/my/videos"


@pytest.mark.parametrize(
    "url",
    [
        *("s3://", "s3://key:secret@bucket/x", "s3://bucket/a b", "s3://bucket/x?region=secret"),
        *("gs://bucket/../secret", "az://-bucket", "s3://bucket//x"),
    ],
)
def test_address_of_a_storage_has_one_form_and_no_secret(tmp_path: Path, url: str) -> None:
    """Credentials belong in the cloud's own variables; what was written is not repeated (ours)."""
    message = refusal({"WAN_MCP_VIDEO_DIR": url}, tmp_path)

    assert message.startswith("WAN_MCP_VIDEO_DIR: must be s3://bucket/prefix")
    assert "secret" not in message


def test_limit_of_size_is_refused_for_object_storage(tmp_path: Path) -> None:
    """It would not hold there, and a limit that does not hold must not seem to (ours)."""
    given = {"WAN_MCP_VIDEO_DIR": "s3://bucket", "WAN_MCP_VIDEO_LIMIT_GB": "5"}

    assert refusal(given, tmp_path) == (
        "WAN_MCP_VIDEO_LIMIT_GB: is for a folder on a disk; in storage a rule of the bucket "
        "deletes old videos"
    )


@pytest.mark.parametrize("base", ["https://pixeldojo.ai", "https://pixeldojo.ai//"])
def test_address_of_the_web_site_alone_is_refused_with_the_right_one(
    base: str, tmp_path: Path
) -> None:
    """The web site knows no jobs, so every valid id would seem to be wrong (ours)."""
    message = refusal({BASE: base}, tmp_path)

    assert message == f"{BASE}: must be the whole address of the API, such as {API_BASE}"


PUBLIC = "WAN_MCP_PUBLIC_URL"


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("https://files.example.com", "https://files.example.com"),
        ("https://files.example.com/", "https://files.example.com"),
        ("https://me.example.com:8443/of/mine/", "https://me.example.com:8443/of/mine"),
        ("http://127.0.0.1:9000/x", "http://127.0.0.1:9000/x"),
        ("http://[::1]:9000", "http://[::1]:9000"),
    ],
)
def test_public_address_may_have_a_port_and_a_path(given: str, read: str, tmp_path: Path) -> None:
    """A proxy may serve other things beside the files (ours)."""
    settings = Settings.read({PUBLIC: given, "WAN_MCP_PUBLIC_PORT": "9123"}, tmp_path)

    assert (settings.public_url, settings.public_port) == (read, 9123)


@pytest.mark.parametrize(
    "url",
    [
        *("http://files.example.com", "ftp://files.example.com", "files.example.com", "https://"),
        *("https://me:word@files.example.com", "https://files.example.com/?x=1", "https://a.b/#c"),
        *("https://files.example.com/a/../b", "https://files.example.com//a", "https://a.b/%2e"),
        *("https://files.example.com:0", "https://files.example.com:99999", "https://192.168.0.2"),
        *("https://server.local", "https://intranet", "https://a b.example", "https://a.b\\c"),
    ],
)
def test_public_address_that_pixeldojo_cannot_use_is_refused(url: str, tmp_path: Path) -> None:
    """A job whose inputs cannot be fetched may be paid, and fail (documented)."""
    message = refusal({PUBLIC: url}, tmp_path)

    assert message.startswith(f"{PUBLIC}: ")
    assert "word" not in message.replace("password", "")


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", "8799.5"])
def test_public_port_that_cannot_be_is_refused(port: str, tmp_path: Path) -> None:
    """A tunnel leads to one port, so none is taken by chance (ours)."""
    message = refusal({"WAN_MCP_PUBLIC_PORT": port}, tmp_path)

    assert message == "WAN_MCP_PUBLIC_PORT: must be a port from 1 to 65535"


@pytest.mark.parametrize("value", ["none", "-1", "inf", "nan", "1,5"])
@pytest.mark.parametrize(
    ("name", "way_out"),
    [
        ("WAN_MCP_MAX_CREDITS_PER_DAY", "a high one, as 100000, lifts the limit"),
        ("WAN_MCP_MAX_CREDITS_PER_JOB", "for no limit leave it out"),
        ("WAN_MCP_CONFIRM_ABOVE", "for no limit leave it out"),
        ("WAN_MCP_VIDEO_LIMIT_GB", "for no limit leave it out"),
    ],
)
def test_wrong_limit_is_refused_with_what_is_allowed_and_how_to_lift_it(
    name: str, value: str, way_out: str, tmp_path: Path
) -> None:
    """A user who writes "none" wants no limit, and must learn how to say so (ours)."""
    assert refusal({name: value}, tmp_path) == f"{name}: must be a number, 0 or more ({way_out})"


@pytest.mark.parametrize("value", ["none", "-1", "2.5"])
@pytest.mark.parametrize("name", ["WAN_MCP_MAX_IN_FLIGHT", "WAN_MCP_MAX_SUBMITS_PER_MINUTE"])
def test_wrong_count_is_refused_with_what_is_allowed(name: str, value: str, tmp_path: Path) -> None:
    """One line is enough to correct it (ours)."""
    assert refusal({name: value}, tmp_path) == f"{name}: must be a whole number, 0 or more"


def test_folders_of_inputs_are_full_paths_the_home_folder_and_the_word_roots(
    tmp_path: Path,
) -> None:
    """No shell expands a ~ in a host's configuration (ours)."""
    folders = [str(tmp_path), " ~/My clips ", "roots", ""]

    settings = Settings.read({HOME: str(tmp_path), INPUT_DIRS: os.pathsep.join(folders)}, tmp_path)

    assert settings.input_dirs == (str(tmp_path), str(tmp_path / "My clips"), "roots")
    assert Settings.read({}, tmp_path).input_dirs is None


@pytest.mark.parametrize("folder", ["clips", "./clips", "~nobody_has_this_name/clips", "Roots"])
def test_folder_of_inputs_that_depends_on_the_working_one_is_refused(
    folder: str, tmp_path: Path
) -> None:
    """A relative one would allow other files in every working folder (ours)."""
    message = refusal({INPUT_DIRS: os.pathsep.join([str(tmp_path), folder])}, tmp_path)

    assert message.startswith(f"{INPUT_DIRS}: must be full paths or start with ~/, with ")
    assert folder not in message.partition("(")[0]


def test_size_of_an_input_is_a_number_of_mb(tmp_path: Path) -> None:
    """The default is that of the documentation, and a wrong one is named (ours)."""
    name = "WAN_MCP_MAX_INPUT_MB"

    assert Settings.read({}, tmp_path).max_input_mb == 500
    assert Settings.read({name: "2000"}, tmp_path).max_input_mb == 2000
    assert refusal({name: "big"}, tmp_path) == f"{name}: must be a number of MB, 0 or more"


@pytest.mark.parametrize("value", ["-1", "301", "nan", "soon"])
def test_wrong_time_to_drain_is_refused_with_what_is_allowed(value: str, tmp_path: Path) -> None:
    """One line is enough to correct it (ours)."""
    name = "WAN_MCP_DRAIN_SECONDS"

    assert refusal({name: value}, tmp_path) == f"{name}: must be a number of seconds from 0 to 300"
    assert Settings.read({name: "15"}, tmp_path).drain_seconds == 15


def test_good_limits_are_accepted(tmp_path: Path) -> None:
    """Our own error messages must not refuse a good value (ours)."""
    given = {
        "WAN_MCP_MAX_CREDITS_PER_DAY": "100000",
        "WAN_MCP_MAX_CREDITS_PER_JOB": "7.5",
        "WAN_MCP_MAX_IN_FLIGHT": "0",
    }

    settings = Settings.read(given, tmp_path)

    assert settings.max_credits_per_day == 100_000
    assert (settings.max_credits_per_job, settings.max_in_flight) == (7.5, 0)
    assert settings.confirm_above is None


@pytest.mark.parametrize(
    "bad",
    [f"{SECRET}\nX-Other: 1", f"{SECRET}\r", f"Bearer {SECRET}", f"{SECRET}\x00", "pd_k\u00e9y"],
)
def test_key_that_a_header_cannot_hold_is_refused_and_not_repeated(
    bad: str, tmp_path: Path
) -> None:
    """A newline in it would add headers (ours)."""
    message = refusal({KEY: f"x{bad}x"}, tmp_path)

    assert message == f"{KEY}: contains spaces or characters that no API key has"


def test_key_is_accepted_in_any_form_and_without_outer_spaces(tmp_path: Path) -> None:
    """Older keys look different from today's (documented); pasting adds a line end (ours)."""
    assert key(Settings.read({KEY: " sk-~old|form==\n"}, tmp_path)) == "sk-~old|form=="


def test_wrong_log_level_names_the_right_ones(tmp_path: Path) -> None:
    """One line is enough to correct it (ours)."""
    message = refusal({"WAN_MCP_LOG_LEVEL": "loud"}, tmp_path)

    assert message.startswith("WAN_MCP_LOG_LEVEL: ")
    assert all(level in message for level in ("DEBUG", "INFO", "WARNING", "ERROR"))
    assert "loud" not in message


def test_key_does_not_appear_in_the_text_of_the_settings(tmp_path: Path) -> None:
    """Settings are printed in logs and tracebacks (ours)."""
    settings = Settings.read({KEY: SECRET}, tmp_path)

    assert SECRET not in f"{settings!r} {settings} {settings.model_dump_json()}"


@pytest.mark.parametrize("quotes", ['""', "''", "\u201c\u201d"])
def test_quotes_around_a_value_are_taken_off(quotes: str, tmp_path: Path) -> None:
    """`docker --env-file` keeps them, and the key would be refused by PixelDojo (observed)."""
    given = {KEY: SECRET.join(quotes), DATA: str(tmp_path).join(quotes)}

    settings = Settings.read(given, tmp_path)

    assert (key(settings), settings.data_dir) == (SECRET, tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WAN_MCP_PORT", "tcp://10.0.0.1:80"),
        ("WAN_MCP_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("WAN_MCP_PORT_80_TCP_PROTO", "tcp"),
        ("WAN_MCP_PORT_80_TCP_PORT", "80"),
        ("WAN_MCP_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("WAN_MCP_SERVICE_HOST", "10.0.0.1"),
        ("WAN_MCP_SERVICE_PORT", "80"),
        ("WAN_MCP_SERVICE_PORT_HTTP", "80"),
        ("WAN_MCP_PROXY_SERVICE_HOST", "10.0.0.1"),
        ("PIXELDOJO_API_PORT", "udp://10.0.0.1:80"),
    ],
)
def test_names_that_kubernetes_sets_for_a_service_are_ignored(
    name: str, value: str, tmp_path: Path
) -> None:
    """A service named wan-mcp puts them into every pod beside it (documented)."""
    assert Settings.read({name: value}, tmp_path) == Settings.read({}, tmp_path)


@pytest.mark.parametrize("name", ["WAN_MCP_PORT", "WAN_MCP_HOST", "WAN_MCP_SERVICE"])
def test_settings_that_only_look_like_a_service_still_stop(name: str, tmp_path: Path) -> None:
    """Somebody who sets a port must learn that there is no such setting (ours)."""
    assert refusal({name: "8080"}, tmp_path).startswith(f"{name}: there is no such setting")


@pytest.mark.skipif(os.name != "posix", reason="named pipes of this kind are POSIX's")
@pytest.mark.parametrize("named", [True, False])
def test_file_of_settings_may_be_a_named_pipe(named: bool, tmp_path: Path) -> None:
    """A password manager writes the key into it when somebody reads (observed elsewhere)."""
    pipe = tmp_path / ".env"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(f"{KEY}={SECRET}\n",))
    writer.start()

    settings = Settings.read({"WAN_MCP_ENV_FILE": str(pipe)} if named else {}, tmp_path)

    writer.join()
    assert key(settings) == SECRET


@pytest.mark.skipif(os.name != "posix", reason="named pipes of this kind are POSIX's")
def test_pipe_that_nobody_writes_to_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program must not wait for ever before its first word (ours)."""
    monkeypatch.setattr("wan_mcp.storage.settings_file.PIPE_SECONDS", 0.0)
    os.mkfifo(tmp_path / ".env")

    assert refusal({}, tmp_path).startswith("the .env file of this folder: the file cannot be read")


STORAGE = "WAN_MCP_STORAGE_URL"


@pytest.mark.parametrize(
    "url", ["s3://bucket", "s3://my.bucket-1/a/b_c.d", "gs://bucket/wan", "az://container/x"]
)
def test_bucket_of_each_cloud_is_accepted_without_the_last_slash(url: str, tmp_path: Path) -> None:
    """Object names are joined to it with a slash (ours)."""
    assert Settings.read({STORAGE: f"{url}/"}, tmp_path).storage_url == url


@pytest.mark.parametrize(
    "url",
    [
        "https://bucket.s3.amazonaws.com/x",
        "file:///home/me",
        "memory://x",
        "bucket/prefix",
        "s3://",
        "s3:///prefix",
        f"s3://key:{SECRET}@bucket/x",
        f"s3://bucket/x?secret={SECRET}",
        f"s3://bucket/x#{SECRET}",
        "s3://bucket/../other",
        "s3://bucket/a//b",
        "s3://bucket/a b",
        "s3://bucket/%2e%2e",
        "s3://bucket:9000/x",
        "s3://bucket\n/x",
    ],
)
def test_address_of_no_bucket_is_refused_and_not_repeated(url: str, tmp_path: Path) -> None:
    """It may contain a secret, and nothing above its prefix may ever be touched (ours)."""
    message = refusal({STORAGE: url}, tmp_path)

    assert message.startswith(f"{STORAGE}: must be s3://bucket/prefix, gs://bucket/prefix or az://")
    assert SECRET not in message
    assert "\n" not in message


def test_secrets_of_clouds_do_not_appear_in_the_text_of_the_settings(tmp_path: Path) -> None:
    """Settings are printed in logs and tracebacks (ours)."""
    given = {"AWS_SECRET_ACCESS_KEY": SECRET, "PATH": "/bin"}

    settings = Settings.read(given, tmp_path)

    assert settings.clouds == {"AWS_SECRET_ACCESS_KEY": SECRET}
    assert SECRET not in f"{settings!r} {settings} {settings.model_dump_json()}"
