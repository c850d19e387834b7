"""Makes an environment for each example that uses a framework, and runs the examples.

    python -m tests.examples.frameworks [EXAMPLE...]

The environments lie in `build/frameworks`, and uv makes them. What each example needs is in its
first lines (inline script metadata, which `uv run` also reads); `.ci/examples` lists the releases
with which the examples are tested, each with its hashes.
"""

import argparse
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "examples"
ENVIRONMENTS = ROOT / "build" / "frameworks"
ASKED = "FRAMEWORKS"
"""The environment variable with which the tests of these examples run."""
HEAD = re.compile(r"^# /// script\n((?:# .*\n)+)# ///$", re.MULTILINE)
"""Inline script metadata (documented: PyPA)."""


def example_file(name: str) -> Path:
    """The example of this name."""
    return FOLDER / f"{name}.py"


def requirements(name: str) -> list[str]:
    """What an example needs, from its first lines."""
    (block,) = HEAD.findall(example_file(name).read_text("utf-8"))
    text = re.sub("^# ", "", block, flags=re.MULTILINE)
    return list(tomllib.loads(text)["dependencies"])


def releases_of(name: str) -> Path:
    """The list of everything that the environment of an example gets."""
    return ROOT / ".ci" / "examples" / f"{name}.txt"


def environment_of(name: str) -> Path:
    """The Python of the environment of an example."""
    place = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
    return ENVIRONMENTS.joinpath(name, *place)


def needs_framework(name: str) -> bool:
    """Whether an example needs more than the official client."""
    return any(not each.startswith("mcp") for each in requirements(name))


EXAMPLES = sorted(path.stem for path in FOLDER.glob("*.py") if needs_framework(path.stem))


def make_environment(name: str) -> None:
    """Install what an example needs, and nothing else. Raises CalledProcessError."""
    python = environment_of(name)
    new = ["uv", "venv", "--quiet", "--clear", "--python", sys.executable]
    subprocess.run([*new, str(ENVIRONMENTS / name)], check=True)
    install = ["uv", "pip", "sync", "--quiet", "--require-hashes", "--python", str(python)]
    subprocess.run([*install, str(releases_of(name))], check=True)


def main() -> int:
    """Make the environments, and run the tests of the examples."""
    parser = argparse.ArgumentParser(description="Runs the examples with frameworks.")
    parser.add_argument("examples", nargs="*", metavar="EXAMPLE", help="all if left out")
    names = parser.parse_args().examples or EXAMPLES
    if unknown := set(names) - set(EXAMPLES):
        parser.error(f"no example {', '.join(unknown)}, only {', '.join(EXAMPLES)}")
    for name in names:
        make_environment(name)
    tests = [sys.executable, "-m", "pytest", "-n", "2", "tests/examples/test_frameworks.py"]
    environment = {**os.environ, ASKED: " ".join(names)}
    return subprocess.run(tests, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
