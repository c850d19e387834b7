"""The command line; only this module reads argv and the environment."""

import gc
import os
import sys

USAGE_ERROR = 2
TERMINAL_HINT = "This waits for an assistant (MCP on stdin). Try `wan-mcp demo`; Ctrl-C ends it.\n"


def main() -> int:
    """Run `wan-mcp`; without a command, the server on standard input and output."""
    if len(sys.argv) == 1:  # every host starts it like this, so nothing else is imported first
        return _stdio()
    from wan_mcp.cli.commands import run

    return run(sys.argv[1:], os.environ, report_error)


def report_error(sentence: object) -> int:
    """Write what is wrong to stderr, in one line of ASCII; returns the exit code for it."""
    line = f"wan-mcp: {sentence}".replace("\n", " ")
    sys.stderr.write(line.encode("ascii", "backslashreplace").decode() + "\n")
    return USAGE_ERROR


def _stdio() -> int:
    # A garbage collection while 600 modules are imported finds nothing and takes 55 ms, and one
    # host drops a server that takes longer than 1.1 s to start.
    gc.disable()
    from wan_mcp.server import build_server
    from wan_mcp.settings import BadSettings, Settings
    from wan_mcp.transports.stdio import run_stdio

    try:
        server = build_server(Settings.read(os.environ), local=True)
    except BadSettings as exc:
        return report_error(exc)
    gc.freeze()
    gc.enable()
    if sys.stdin and sys.stdin.isatty():  # a person, who would think that the silent server hangs
        sys.stderr.write(TERMINAL_HINT)
    return run_stdio(server)


if __name__ == "__main__":
    sys.exit(main())
