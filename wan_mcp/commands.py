"""The commands besides the stdio server: http, sandbox, demo."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import anyio

Complain = Callable[[object], int]

_PARAMETERS: tuple[tuple[str, type, str], ...] = (
    ("duration", int, "seconds of video to make, 1 to 15"),
    ("resolution", str, "480 or 720"),
    ("refert-num", int, "reference frames, 1 to 10"),
    ("frames-per-second", int, "8 to 30"),
    ("seed", int, "repeats a take"),
)


def run(arguments: Sequence[str], environment: Mapping[str, str], complain: Complain) -> int:
    """Run one command.

    Args:
        arguments: what follows the program's name.
        environment: where the settings are read from.
        complain: tells a wrong setting in one line and gives the exit code for it.
    """
    from wan_mcp.settings import BadSettings

    asked = _parser().parse_args(arguments)
    commands = {"http": _http, "sandbox": _sandbox, "demo": _demo}
    try:
        return commands[asked.command](asked, environment)
    except (BadSettings, ValueError, OSError) as exc:
        return complain(exc)
    except KeyboardInterrupt:
        return 130


def _http(asked: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from wan_mcp.http import serve_http
    from wan_mcp.server import build_server
    from wan_mcp.settings import Settings

    async def serve() -> None:
        server = build_server(Settings.read(environment))
        await serve_http(server, host=asked.host, port=asked.port, announce=_say)

    anyio.run(serve)
    return 0


def _sandbox(asked: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from wan_mcp.sandbox import Sandbox, Terms, serve

    terms = Terms(
        credits=asked.credits,
        pending_seconds=asked.job_seconds / 5,
        processing_seconds=asked.job_seconds * 4 / 5,
    )

    def announce(sandbox: Sandbox) -> None:
        _say(f"PixelDojo sandbox on {sandbox.origin}: nothing here costs money")
        _say(f"PIXELDOJO_API_BASE={sandbox.api_base}")
        _say(f"PIXELDOJO_API_KEY={sandbox.key}")

    async def listen() -> None:
        await serve(asked.port, terms=terms, announce=announce)

    anyio.run(listen)
    return 0


def _demo(asked: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from wan_mcp.demo import Demo
    from wan_mcp.settings import Settings

    given = {
        "video": asked.video,
        "character_image": asked.image,
        "video_duration": asked.duration,
        "resolution": asked.resolution,
        "refert_num": asked.refert_num,
        "frames_per_second": asked.frames_per_second,
        "go_fast": asked.go_fast,
        "merge_audio": asked.merge_audio,
        "seed": asked.seed,
    }
    demo = Demo(
        {name: value for name, value in given.items() if value is not None},
        folder=asked.folder,
        job_seconds=asked.job_seconds,
    )
    if asked.live:
        return anyio.run(demo.live, Settings.read(environment), environment)
    return anyio.run(demo.on_sandbox, environment)


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wan-mcp",
        description="Put a character into a video, from any MCP host. Without a command: the "
        "server on standard input and output, as hosts start it.",
    )
    parser.add_argument("--version", action="version", version=version("wan-mcp"))
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    http = commands.add_parser("http", help="the same server over HTTP, on this machine only")
    http.add_argument("--host", default="127.0.0.1", help="a loopback address (%(default)s)")
    http.add_argument("--port", type=int, default=8765, help="0 takes a free one (%(default)s)")
    sandbox = commands.add_parser("sandbox", help="a make-believe PixelDojo, free of charge")
    sandbox.add_argument("--port", type=int, default=8788, help="0 takes a free one (%(default)s)")
    sandbox.add_argument("--credits", type=float, default=100, help="on its key (%(default)s)")
    sandbox.add_argument("--job-seconds", type=float, default=20, help="a job's time (%(default)s)")
    _add_demo(commands.add_parser("demo", help="one job from end to end, on the sandbox or live"))
    return parser


def _add_demo(demo: argparse.ArgumentParser) -> None:
    demo.add_argument("--live", action="store_true", help="use PixelDojo; asks before it spends")
    demo.add_argument("--video", metavar="URL", help="public link to the source clip")
    demo.add_argument("--image", metavar="URL", help="public link to the character's picture")
    for name, kind, text in _PARAMETERS:
        demo.add_argument(f"--{name}", type=kind, metavar="N", help=text)
    demo.add_argument("--go-fast", action="store_true", default=None, help="faster, less quality")
    demo.add_argument(
        "--merge-audio",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="keep the clip's sound",
    )
    demo.add_argument("--folder", type=Path, default=Path(), help="where the film is saved (here)")
    demo.add_argument(
        "--job-seconds", type=float, default=12, help="a job's time in the sandbox (%(default)s)"
    )
