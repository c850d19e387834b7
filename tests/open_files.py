"""A process that may open no more files, for tests."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

resource = pytest.importorskip("resource", reason="Windows has no such limit")


@contextmanager
def no_files_left(*, but: int = 0) -> Iterator[None]:
    """Within it, this process can open so many files and sockets, and no more."""
    usual, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as ending:
        lowest = os.open(os.devnull, os.O_RDONLY)
        ending.callback(os.close, lowest)
        # The limit is about the number of a descriptor, and lower ones may be free.
        ending.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (usual, most))
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 64, most))
        held = ending.enter_context(ExitStack())
        numbers: list[int] = []
        try:
            while True:
                numbers.append(os.dup(lowest))
        except OSError:
            pass
        for number in numbers[:but]:
            os.close(number)
        for number in numbers[but:]:
            held.callback(os.close, number)
        yield
