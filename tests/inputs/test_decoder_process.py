"""The process that reads strangers' files: whatever happens to it, the server goes on."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from wan_mcp.inputs import decoder_process
from wan_mcp.inputs.decoder_limits import MEMORY_BYTES
from wan_mcp.inputs.decoder_process import NotLookedAt, started

pytestmark = pytest.mark.anyio

SERVES = """
import sys
from wan_mcp.inputs.decoder_limits import answer_questions
def answer(question, parts):
    {body}
answer_questions(answer)
"""


async def answer_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, *parts: bytes, **limits: float
) -> dict[str, Any]:
    """What a process with this body answers."""
    script = tmp_path / "child.py"
    script.write_text(SERVES.format(body=body))
    monkeypatch.setattr(decoder_process, "COMMAND", (sys.executable,))
    with anyio.fail_after(600):
        async with started(str(script)) as process:
            return await process.ask({"a": 1}, parts, **limits)


async def test_a_question_and_its_bytes_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also bytes that look like the end of a line, and none at all (ours)."""
    body = 'print("noise"); return {"a": question["a"], "parts": [len(part) for part in parts]}'
    answer = await answer_of(tmp_path, monkeypatch, body, b"\n{}\n", b"", bytes(300_000))

    assert answer == {"a": 1, "parts": [4, 0, 300_000]}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("raise UnicodeDecodeError('utf-8', b'x', 0, 1, '')", "it failed .UnicodeDecodeError"),
        ("import os; os.abort()", "ended unexpectedly"),
        ("import os; os._exit(0)", "ended unexpectedly"),
        ("import os; os.write(3, b'no JSON\\n'); os._exit(0)", "ended unexpectedly"),
        ("return [1]", "ended unexpectedly"),
        ("return {'a': 'x' * 3_000_000}", "ended unexpectedly"),
    ],
    ids=["error", "crash", "end", "no-json", "no-object", "endless"],
)
async def test_a_process_that_breaks_is_a_reason_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, why: str
) -> None:
    """It says nothing about the file (ours)."""
    with pytest.raises(NotLookedAt, match=why):
        await answer_of(tmp_path, monkeypatch, body)


async def test_a_process_that_does_not_answer_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time is over at once, so nothing here depends on the machine (ours)."""
    with pytest.raises(NotLookedAt, match="took too long"):
        await answer_of(tmp_path, monkeypatch, "while True: pass", seconds=0.0)


async def test_a_process_that_cannot_be_started_is_a_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All file handles may be in use (observed elsewhere)."""
    monkeypatch.setattr(decoder_process, "COMMAND", ("/does/not/exist",))
    with pytest.raises(NotLookedAt, match="could not be started"):
        async with started("module"):
            pass


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on memory holds on Linux")
async def test_memory_is_refused_to_the_process_and_the_server_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """512 MB of address space (ours)."""
    body = f"return {{'length': len(bytes({MEMORY_BYTES}))}}"
    with pytest.raises(NotLookedAt, match="too much memory"):
        await answer_of(tmp_path, monkeypatch, body)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")
@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("return {'open': len([open(sys.executable) for _ in range(99)])}", "OSError"),
        (
            f"import os; return {{'n': os.write(os.open('x', {os.O_CREAT | os.O_WRONLY}), b'x')}}",
            "OSError",
        ),
    ],
    ids=["open-files", "written-files"],
)
async def test_files_are_refused_to_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, why: str
) -> None:
    """It opens one file, and writes none (ours)."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotLookedAt, match=why):
        await answer_of(tmp_path, monkeypatch, body)


def test_a_system_without_limits_is_no_error() -> None:
    """Windows has no module `resource` (documented)."""
    code = (
        "import sys; sys.modules['resource'] = None; "
        "from wan_mcp.inputs.decoder_limits import limit_this_process as f; f()"
    )
    ended = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, timeout=600)

    assert (ended.returncode, ended.stderr) == (0, b"")
