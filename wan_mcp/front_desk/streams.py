"""The standard streams of this process: the protocol gets descriptors of its own."""

import os
import sys


def take_standard_streams() -> tuple[int, int]:
    """Move the protocol to descriptors of its own, so that a stray `print` goes to stderr.

    This is never undone: text that `sys.stdout` still buffers would reach the client at the exit.

    Returns:
        The descriptors to read from and to write to.
    """
    # A closed standard stream is opened, or a file of ours would get its number.
    while (null := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    stdin, stdout = os.dup(0), os.dup(1)
    for standard, instead in ((0, null), (1, 2)):
        os.dup2(instead, standard)
    os.close(null)
    if sys.platform != "win32":
        for descriptor in (stdin, stdout):
            os.set_blocking(descriptor, True)  # a host may pass on its own non-blocking pipe
    if sys.stderr is not None and hasattr(sys.stderr, "reconfigure"):
        sys.stderr.reconfigure(encoding="ascii", errors="backslashreplace")
    return stdin, stdout


def write_all(stdout: int, data: bytes) -> None:
    """Write all of it. Raises OSError when the client no longer reads."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(stdout, rest) :]
