"""The other side of `decoder_process`: limits for a process that reads strangers' files.

A module that runs in such a process calls `answer_questions` before it imports PyAV.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

MEMORY_BYTES = 512 << 20
"""Address space. Python with PyAV takes 120 MB of it, and a contact sheet of 1,088 lines 235 MB in
total (measured)."""
CPU_SECONDS = 20
"""Processor time; a contact sheet of 24 frames of noise with 1,088 lines takes 4 s (measured)."""
MAX_OPEN_FILES = 32
"""How many files may be open: the pipes, one video, and what Python imports (ours)."""

Answer = Callable[[dict[str, Any], list[bytes]], dict[str, Any]]
"""Answers one question, which may come with bytes."""


def answer_questions(
    answer: Answer, *, cpu_seconds: int = CPU_SECONDS, written_bytes: int = 0
) -> None:
    """Answer the questions on standard input until it ends, within the limits.

    An error is an answer too, whose field `failed` is the end of a sentence.

    Args:
        cpu_seconds: limit for the processor time of all answers together.
        written_bytes: how large a file that is written may become.
    """
    # Whatever a library prints must not become part of an answer.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    limit_this_process(cpu_seconds, written_bytes)
    for line in sys.stdin.buffer:
        question = json.loads(line)
        parts = [sys.stdin.buffer.read(length) for length in question["lengths"]]
        answers.write(json.dumps(_answered(answer, question, parts)).encode() + b"\n")
        answers.flush()


def _answered(answer: Answer, question: dict[str, Any], parts: list[bytes]) -> dict[str, Any]:
    try:
        return answer(question, parts)
    except MemoryError:
        return {"failed": "reading it takes too much memory"}
    except Exception as exc:
        return {"failed": f"reading it failed ({type(exc).__name__})"}


def limit_this_process(cpu_seconds: int = CPU_SECONDS, written_bytes: int = 0) -> None:
    """Set the limits that this system has; Windows has none of them."""
    try:
        import resource
    except ImportError:
        return
    for name, limit in (
        ("RLIMIT_AS", MEMORY_BYTES),
        ("RLIMIT_CPU", cpu_seconds),
        ("RLIMIT_NOFILE", MAX_OPEN_FILES),
        ("RLIMIT_FSIZE", written_bytes),
        ("RLIMIT_CORE", 0),
    ):
        if hasattr(resource, name):
            _lower(getattr(resource, name), limit)


def _lower(kind: int, limit: int) -> None:
    """Lower one limit; some systems refuse it (macOS for address space), the others still hold."""
    if sys.platform == "win32":
        return  # which has no such module
    import resource

    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    try:
        resource.setrlimit(kind, (limit, limit))
    except (OSError, ValueError):
        return
