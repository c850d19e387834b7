"""The commands apart from the stdio server."""

import argparse
import math
import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from wan_mcp.cli.admin.command_line import add_actions, run_action
from wan_mcp.cli.jobs.command_line import COMMANDS, add_commands, run_command

if TYPE_CHECKING:
    from wan_mcp.cli.demo import Demo
    from wan_mcp.pixeldojo.client import PixelDojo
    from wan_mcp.settings import Settings

_Result = TypeVar("_Result")
ReportError = Callable[[object], int]

INTERRUPTED = 130
"""The exit code after Ctrl-C, as in shells."""

_COMMANDS = ("http", "sandbox", "demo", "setup", "check", "admin", *COMMANDS)
# Passed on as typed: the server checks them, and its messages say what is wrong.
_PARAMETERS = (
    ("duration", "video_duration", "seconds of video to make, 1 to 15 (5)"),
    ("resolution", "resolution", "480 or 720 (480)"),
    ("refert-num", "refert_num", "reference frames, 1 to 10"),
    ("frames-per-second", "frames_per_second", "8 to 30"),
    ("seed", "seed", "the same seed repeats a result"),
)
_FLAGS = ("go_fast", "merge_audio")


class UsageError(Exception):
    """The command line or a setting cannot be understood or carried out; the text is one line."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def run(arguments: Sequence[str], environment: Mapping[str, str], report_error: ReportError) -> int:
    """Run one command.

    Args:
        arguments: what follows the program's name.
        environment: where the settings are read from.
        report_error: prints what is wrong in one line and returns the exit code for it.

    Returns:
        The exit code.
    """
    own = [_own_jobs] * len(COMMANDS)
    commands = dict(
        zip(_COMMANDS, (_http, _sandbox, _demo, _setup, _check, _admin, *own), strict=True)
    )
    try:
        parsed = _parsed(arguments)
        return commands[parsed.command](parsed, environment)
    except BrokenPipeError:
        return _end_without_reader()
    except (UsageError, OSError) as exc:
        return report_error(exc)
    except KeyboardInterrupt:
        return INTERRUPTED


def _http(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from wan_mcp.cli.http_command import serve_http

    with _settings_are_used():
        serve_http(parsed.host, parsed.port, partial(_settings, environment), _log)


def _settings(environment: Mapping[str, str]) -> "Settings":
    """The operator's settings. Raises UsageError when one cannot be used."""
    from wan_mcp.settings import Settings

    with _settings_are_used():
        return Settings.read(environment)


@contextmanager
def _settings_are_used() -> Iterator[None]:
    """Raises UsageError for settings that cannot be used."""
    from wan_mcp.settings import BadSettings

    try:
        yield
    except BadSettings as exc:
        raise UsageError(str(exc)) from None


def _sandbox(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from wan_mcp.sandbox import Sandbox, Terms, serve

    terms = Terms(
        credits=parsed.credits,
        videos="own",
        requests_per_minute=60,
        pending_seconds=parsed.job_seconds / 5,
        processing_seconds=parsed.job_seconds * 4 / 5,
    )

    def announce(sandbox: Sandbox) -> None:
        _log(f"PixelDojo sandbox on {sandbox.origin}: nothing here costs money")
        _log(f"PIXELDOJO_API_BASE={sandbox.api_base}")
        _log(f"PIXELDOJO_API_KEY={sandbox.key}")

    async def listen() -> None:
        await serve(parsed.port, terms=terms, announce=announce, exit_idle=parsed.exit_idle)

    _run(listen)
    return 0


def _demo(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from wan_mcp.cli.demo import Demo

    names = ["video", "character_image", *(name for _, name, _ in _PARAMETERS), *_FLAGS]
    given = {name: getattr(parsed, name) for name in names if getattr(parsed, name) is not None}
    parsed.folder.mkdir(parents=True, exist_ok=True)
    if not os.access(parsed.folder, os.W_OK):
        raise PermissionError(f"the folder {parsed.folder} cannot be written to")
    demo = Demo(given, folder=parsed.folder)
    if parsed.live:
        return _live(given, demo, environment)
    with _settings_are_used():
        return _run(demo.on_sandbox, environment, parsed.job_seconds)


def _live(given: Mapping[str, Any], demo: "Demo", environment: Mapping[str, str]) -> int:
    from wan_mcp.pixeldojo.client import PixelDojo

    settings = _settings(environment)
    vendor = PixelDojo(settings.api_base, settings.api_key.get_secret_value())
    _require_usable(given, vendor, settings)
    price = _run(_price, vendor)
    # Asked outside the event loop, in which Ctrl-C would not end the question.
    if not _confirmed(f"Start one job at {settings.api_base} ({price})? [y/N] "):
        _print("Nothing was sent and nothing was charged.\n")
        return 1
    return _run(demo.live, settings, environment)


def _require_usable(given: Mapping[str, Any], vendor: "PixelDojo", settings: "Settings") -> None:
    """Raises UsageError for a job that cannot start, before the user is asked to pay for it."""
    from wan_mcp.cli.own_inputs import with_full_paths
    from wan_mcp.errors import InvalidArguments, NoKey
    from wan_mcp.surface.arguments import ReplaceCharacter, read_arguments

    if not (given.get("video") and given.get("character_image")):
        raise UsageError("--live needs --video and --image: your own files, or links to them")
    full, folders = with_full_paths(given)
    if folders and not (settings.storage_url or settings.public_url):
        raise UsageError(
            "PixelDojo cannot fetch a file of this computer: give its link, or set "
            "WAN_MCP_STORAGE_URL or WAN_MCP_PUBLIC_URL"
        )
    try:
        vendor.require_key()
        near, home = settings.on_loopback, settings.home
        read_arguments(ReplaceCharacter, full, loopback=near, local=True, home=home)
    except NoKey as exc:
        where = "create a key in your account on pixeldojo.ai"
        raise UsageError(f"{exc.what} --live needs PIXELDOJO_API_KEY: {where}") from None
    except InvalidArguments as exc:
        raise UsageError(exc.what) from None


def _setup(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from wan_mcp.cli.hosts.catalogue import HOSTS
    from wan_mcp.cli.setup import Setup, Terminal, asked_secretly, folders_of

    if parsed.skill:
        return _skill(parsed.host)
    folders = folders_of(environment)
    if folders is None:
        raise UsageError("this user has no home folder, so no host has settings here")
    terminal = Terminal(_print, _confirmed, asked_secretly())
    setup = Setup(terminal, environment, folders, agreed=parsed.yes)
    if parsed.host is None:
        return setup.list_hosts()
    host = next(host for host in HOSTS if host.id == parsed.host)
    if parsed.print:
        return setup.print_entry(host)
    return setup.remove(host) if parsed.remove else setup.add(host)


def _skill(host: str | None) -> int:
    from wan_mcp.cli.skill import skill_file, skill_place

    _print(skill_file(host))
    _log(skill_place(host))  # not in the output, which a user can redirect into the file
    return 0


def _check(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    import logging

    from wan_mcp.cli.check.check import Check
    from wan_mcp.cli.check.findings import Report
    from wan_mcp.cli.setup import folders_of

    logging.getLogger("wan_mcp").addHandler(logging.NullHandler())  # the findings say it better

    async def look() -> int:
        report = Report(_print, as_json=parsed.json)
        await Check(environment, folders_of(environment)).run(report)
        return report.end()  # here, because a name server that hangs would delay the last line

    return _run(look)


def _admin(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    return run_action(parsed, _settings(environment), _print, _log)


def _own_jobs(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from wan_mcp.cli.jobs.commands import JobCommands, Screen
    from wan_mcp.cli.jobs.openers import open_with_system
    from wan_mcp.cli.jobs.own_ledger import OwnLedger
    from wan_mcp.cli.jobs.stored import Stored
    from wan_mcp.clock import Clock

    settings = _settings(environment)
    ledger = OwnLedger.of(settings, Clock().wall)
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    system = partial(open_with_system, environment=environment)
    screen = Screen(_print, _log, _confirmed, system, columns)
    return run_command(JobCommands(ledger, screen, Stored(settings.clouds)), parsed)


async def _price(vendor: "PixelDojo") -> str:
    from wan_mcp.errors import WanError
    from wan_mcp.wording import counted

    try:
        estimate = (await vendor.model()).credit_estimate
    except WanError as exc:
        return f"its price is not known: {exc.what.rstrip('.')}"
    finally:
        await vendor.aclose()
    if estimate is None:
        return "its price is not known: PixelDojo's page names none"
    return f"about {counted(estimate, 'credit')}"


def _confirmed(question: str) -> bool:
    _print(question)
    answer = sys.stdin.readline() if sys.stdin else ""
    if not answer.endswith("\n"):
        _print("\n")  # standard input has ended, so the cursor is still after the question
    return answer.strip().lower() in {"y", "yes"}


def _run(work: Callable[..., Awaitable[_Result]], *given: Any) -> _Result:
    import anyio  # here, because the http command answers before it is imported

    return anyio.run(work, *given)


def _print(text: str) -> None:
    encoding = sys.stdout.encoding or "ascii"  # a console's code page may lack a letter
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()


def _end_without_reader() -> int:
    """End quietly if the reader of the output has stopped reading, as `head` does."""
    # Otherwise Python tries again to write the rest when it ends, and reports the failure.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _log(line: str) -> None:
    if sys.stderr is not None:  # None if the parent process closed it
        sys.stderr.write(line.encode("ascii", "backslashreplace").decode() + "\n")
        sys.stderr.flush()


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    # Unknown words are not repeated: one may be a key from a host's configuration, and hosts keep
    # what is written to stderr.
    parser = _parser()
    if arguments[0] not in (*_COMMANDS, "-h", "--help", "--version"):
        parser.error(f"the first word must be {', '.join(_COMMANDS)}, or nothing at all")
    parsed, rest = parser.parse_known_args(arguments)
    if rest:
        names = [word.partition("=")[0] for word in rest if word.startswith("--")]
        parser.error(f"{parsed.command} does not know {', '.join(names) or 'one of its words'}")
    return parsed


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="wan-mcp",
        description="Put a character into a video, from any MCP host. Without a command: the "
        "server on standard input and output, as hosts start it.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('wan-mcp')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    # Without abbreviations: an option that spends credits must not be guessed.
    add = partial(commands.add_parser, allow_abbrev=False)
    http = add("http", help="the same server over HTTP, for this machine or for a team")
    http.add_argument(
        "--host",
        default="127.0.0.1",
        help="another address only where people sign in (%(default)s)",
    )
    http.add_argument("--port", type=_port, default=8765, help="0 takes a free one (%(default)s)")
    _add_sandbox(add("sandbox", help="a make-believe PixelDojo, free of charge"))
    _add_demo(add("demo", help="one job from end to end, on the sandbox or live"))
    _add_setup(add("setup", help="add this server to a host's settings, or take it out"))
    check = add("check", help="whether all that a job needs works; buys nothing")
    check.add_argument("--json", action="store_true", help="the same as data")
    add_actions(add("admin", help="for the operator of a team: the ledger in PostgreSQL"))
    add_commands(add)
    return parser


def _add_sandbox(sandbox: argparse.ArgumentParser) -> None:
    sandbox.add_argument(
        "--port", type=_port, default=8788, help="0 takes a free one (%(default)s)"
    )
    sandbox.add_argument("--credits", type=_amount, default=100, help="on its key (%(default)s)")
    sandbox.add_argument(
        "--job-seconds", type=_amount, default=20, help="how long a job takes (%(default)s)"
    )
    sandbox.add_argument(
        "--exit-idle", type=_amount, metavar="SECONDS", help="end after this long without a request"
    )


def _add_demo(demo: argparse.ArgumentParser) -> None:
    demo.add_argument("--live", action="store_true", help="use PixelDojo; asks before it spends")
    demo.add_argument("--video", metavar="URL", help="the source video: a link or a file")
    demo.add_argument(
        "--image",
        dest="character_image",
        metavar="URL",
        help="the character's image: a link or a file",
    )
    for option, name, text in _PARAMETERS:
        demo.add_argument(f"--{option}", dest=name, metavar="N", help=text)
    demo.add_argument("--go-fast", action="store_true", default=None, help="faster, less quality")
    demo.add_argument(
        "--merge-audio",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="keep the video's audio (yes)",
    )
    demo.add_argument("--folder", type=Path, default=Path(), help="where the video is saved (here)")
    demo.add_argument(
        "--job-seconds",
        type=_amount,
        default=12,
        help="how long a job takes in the sandbox (%(default)s)",
    )


def _add_setup(setup: argparse.ArgumentParser) -> None:
    from wan_mcp.cli.hosts.catalogue import HOSTS

    setup.add_argument(
        "host",
        nargs="?",
        choices=[host.id for host in HOSTS],
        metavar="HOST",
        help=f"{', '.join(host.id for host in HOSTS)}; without one, all are listed",
    )
    what = setup.add_mutually_exclusive_group()
    what.add_argument("--print", action="store_true", help="only show the entry")
    what.add_argument("--remove", action="store_true", help="take the entry out again")
    what.add_argument("--skill", action="store_true", help="print a file that teaches the model")
    setup.add_argument("--yes", action="store_true", help="write without asking")


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) < 65_536):
        raise argparse.ArgumentTypeError("must be a number from 0 to 65535")
    return int(text)


def _amount(text: str) -> float:
    with suppress(ValueError):
        if 0 <= float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError("must be a number, 0 or more")
