"""The examples with frameworks: each runs as it is, in an environment of its own.

`python -m tests.examples.frameworks` makes the environments and runs these tests; without it they
are skipped. The model follows a script, and PixelDojo is the sandbox.
"""

import os
import re
import subprocess
import sysconfig
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio.to_thread
import pytest
from packaging.requirements import Requirement

from tests.examples.frameworks import (
    ASKED,
    EXAMPLES,
    FOLDER,
    environment_of,
    example_file,
    releases_of,
    requirements,
)
from tests.examples.scripted_model import scripted_model
from wan_mcp.sandbox import Sandbox, Terms

pytestmark = pytest.mark.anyio

LIMIT_SECONDS = 600
"""Ends a program that hangs; no machine is that slow."""
AGENTS = [name for name in EXAMPLES if name.endswith("_agent")]
DURABLE = "durable_workflow"
NAMED_RELEASES = [
    ("LangChain", "langchain_agent", "langchain"),
    ("langchain-mcp-adapters", "langchain_agent", "langchain-mcp-adapters"),
    ("OpenAI Agents SDK", "openai_agent", "openai-agents"),
    ("Pydantic AI", "pydantic_ai_agent", "pydantic-ai-slim"),
    ("LlamaIndex", "llama_index_agent", "llama-index-core"),
    ("llama-index-tools-mcp", "llama_index_agent", "llama-index-tools-mcp"),
    ("DBOS", DURABLE, "dbos"),
]
"""Those that the page of the examples names: its words for it, an example, a package."""
CRASH = """
import asyncio, os, sys
import durable_workflow as example

ask = example.ask

async def ask_and_crash(tool, arguments):
    await ask(tool, arguments)
    os._exit(9)  # PixelDojo has been paid, and nothing is recorded

example.ask = ask_and_crash
asyncio.run(example.main(*sys.argv[1:]))
"""
"""Runs the durable workflow up to the answer of its first call."""


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(Terms(pending_seconds=0.2, processing_seconds=0.3)) as sandbox:
        yield sandbox


@pytest.fixture
def model() -> Iterator[str]:
    with scripted_model() as base:
        yield base


async def run(
    name: str, words: list[str], folder: Path, settings: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a program with the Python of an example; the test is skipped if nobody asked for it."""
    if name not in os.environ.get(ASKED, "").split():
        pytest.skip(f"needs an environment: python -m tests.examples.frameworks {name}")
    ours = sysconfig.get_path("scripts")  # where wan-mcp is
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return await anyio.to_thread.run_sync(
        lambda: subprocess.run(
            [environment_of(name), *words],
            cwd=folder,
            env={**kept, "PATH": f"{ours}{os.pathsep}{os.environ['PATH']}", **settings},
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
    )


def settings_for(sandbox: Sandbox) -> dict[str, str]:
    """What a user sets, for the sandbox."""
    return {"PIXELDOJO_API_BASE": sandbox.api_base, "PIXELDOJO_API_KEY": sandbox.key}


@pytest.mark.parametrize("name", AGENTS)
async def test_agent_pays_once_and_shows_the_link_to_its_video(
    name: str, sandbox: Sandbox, model: str, tmp_path: Path
) -> None:
    """The example is not changed for the test (ours)."""
    openai = {"OPENAI_BASE_URL": model, "OPENAI_API_BASE": model, "OPENAI_API_KEY": "dummy-key"}
    more = {"OPENAI_AGENTS_DISABLE_TRACING": "1", "LANGSMITH_TRACING": "false"}
    inputs = [sandbox.source_video_url, sandbox.image_url]
    words = [str(example_file(name)), *inputs]

    ended = await run(name, words, tmp_path, {**settings_for(sandbox), **openai, **more})

    assert ended.returncode == 0, ended.stderr
    assert f"{sandbox.origin}/media/results/job_" in ended.stdout
    assert len(sandbox.charges) == 1


async def test_step_that_is_run_again_after_a_crash_is_not_paid_again(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """The program ends between the payment and the record of the step (ours)."""
    inputs = [sandbox.source_video_url, sandbox.image_url]
    settings = settings_for(sandbox)
    found = {"PYTHONPATH": str(FOLDER)}
    program = [str(example_file(DURABLE)), *inputs]

    crashed = await run(DURABLE, ["-c", CRASH, *inputs], tmp_path, {**settings, **found})
    paid = len(sandbox.charges)
    again = await run(DURABLE, program, tmp_path, settings)
    third = await run(DURABLE, program, tmp_path, settings)

    assert (crashed.returncode, paid) == (9, 1), crashed.stderr
    assert again.returncode == 0, again.stderr
    assert f"{sandbox.origin}/media/results/job_" in again.stdout
    assert third.stdout == again.stdout
    assert len(sandbox.charges) == 1


def test_every_example_with_a_framework_is_run() -> None:
    """One that is neither an agent nor the durable workflow would be forgotten (ours)."""
    assert AGENTS
    assert {DURABLE, *AGENTS} == set(EXAMPLES)


def test_each_example_has_its_list_of_releases_of() -> None:
    """`.ci/lock examples` writes them, and leaves none behind (ours)."""
    folder = releases_of(DURABLE).parent

    assert sorted(path.stem for path in folder.glob("*.txt")) == EXAMPLES


@pytest.mark.parametrize("name", EXAMPLES)
def test_releases_of_are_what_the_example_asks_for(name: str) -> None:
    """A change of the example without a new list would test something else (ours)."""
    releases = pins(name)

    for line in requirements(name):
        needed = Requirement(line)
        assert needed.specifier.contains(releases[needed.name]), line


def test_page_names_the_releases_of() -> None:
    """A reader compares them with their own (ours)."""
    page = " ".join((FOLDER / "README.md").read_text("utf-8").split())
    named = re.search(r"With these releases [^:]*: (.*?[0-9])\.(?: |$)", page)
    assert named is not None

    assert named[1] == ", ".join(
        f"{title} {pins(name)[package]}" for title, name, package in NAMED_RELEASES
    )


def pins(name: str) -> dict[str, str]:
    """The tested release of each package."""
    text = releases_of(name).read_text("utf-8")
    return dict(re.findall(r"^([\w.-]+)==([^ ]+)", text, re.MULTILINE))
