"""The command line; the only reader of argv and of the environment."""

import gc
import os
import sys

USAGE_ERROR = 2
FOR_PEOPLE = "This waits for an assistant (MCP on stdin). Try `wan-mcp demo`; Ctrl-C ends it.\n"


def main() -> int:
    """Run `wan-mcp`; without a command, the server on standard input and output."""
    if len(sys.argv) == 1:  # what every host starts, so it takes no detour
        return _stdio()
    from wan_mcp.cli.commands import run

    return run(sys.argv[1:], os.environ, complain)


def complain(sentence: object) -> int:
    """Tell what is wrong in one line on stderr; the exit code that goes with it."""
    line = f"wan-mcp: {sentence}".replace("\n", " ")
    sys.stderr.write(line.encode("ascii", "backslashreplace").decode() + "\n")
    return USAGE_ERROR


def _stdio() -> int:
    # A collection while 600 modules are imported finds nothing and takes 55 ms; one host drops a
    # server that is slower than 1.1 s.
    gc.disable()
    from wan_mcp.server import build_server
    from wan_mcp.settings import BadSettings, Settings
    from wan_mcp.transports.stdio import run_stdio

    try:
        server = build_server(Settings.read(os.environ), local=True)
    except BadSettings as exc:
        return complain(exc)
    gc.freeze()
    gc.enable()
    if sys.stdin and sys.stdin.isatty():  # a person, who would take the silence for a hang
        sys.stderr.write(FOR_PEOPLE)
    return run_stdio(server)


if __name__ == "__main__":
    sys.exit(main())
