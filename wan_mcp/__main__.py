"""The command line; only this module reads argv and the environment."""

import gc
import os
import sys

USAGE_ERROR = 2
BROKEN_INSTALLATION = 1
INTERRUPTED = 130
BROKEN = "cannot start, because a package cannot be imported ({}: {}). Install wan-mcp again."
TERMINAL_HINT = "This waits for an assistant (MCP on stdin). Try `wan-mcp demo`; Ctrl-C ends it.\n"


def main() -> int:
    """Run `wan-mcp`; without a command, the server on standard input and output."""
    if len(sys.argv) == 1:  # every host starts it like this, so nothing else is imported first
        try:
            return _stdio()
        except KeyboardInterrupt:  # before the server is ready; then it ends in order
            return INTERRUPTED
    from wan_mcp.cli.commands import run

    try:
        return run(sys.argv[1:], os.environ, report_error)
    except ImportError as exc:
        return report_broken(exc)


def report_error(sentence: object, code: int = USAGE_ERROR) -> int:
    """Write what is wrong to stderr, in one line of ASCII; returns the exit code for it."""
    line = f"wan-mcp: {sentence}".replace("\n", " ")
    if sys.stderr is not None:  # None where whoever started this closed it
        sys.stderr.write(line.encode("ascii", "backslashreplace").decode() + "\n")
    return code


def report_broken(exc: Exception) -> int:
    """Write that a package cannot be imported; returns the exit code for it."""
    return report_error(BROKEN.format(type(exc).__name__, exc), BROKEN_INSTALLATION)


def _stdio() -> int:
    """Let the front desk answer while everything else is imported, then serve."""
    # A garbage collection while 600 modules are imported finds nothing and takes 55 ms.
    gc.disable()
    from wan_mcp.front_desk import desk as front

    # Reading the metadata of every installed package takes 10 ms, and this program has no plugin.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    is_person = sys.stdin is not None and sys.stdin.isatty()
    desk = front.open_on_standard_streams(os.environ, sys.path)
    try:
        from wan_mcp.transports.wire_models import build_when_used

        build_when_used()
        from wan_mcp.server import build_server
        from wan_mcp.settings import BadSettings, Settings
        from wan_mcp.transports.stdio import run_stdio
    except Exception as exc:  # a package that is missing, damaged, or of another version
        return report_broken(exc)
    try:
        server = build_server(Settings.read(os.environ), local=True)
    except BadSettings as exc:
        return report_error(exc)
    gc.freeze()
    gc.enable()
    if is_person and sys.stderr is not None:  # who would think that the silent server hangs
        sys.stderr.write(TERMINAL_HINT)
    return run_stdio(server, desk=desk)


if __name__ == "__main__":
    sys.exit(main())
