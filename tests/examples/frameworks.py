"""Makes an environment for each example that uses a framework, and runs the examples.

    python -m tests.examples.frameworks [EXAMPLE...]

The environments lie in `build/frameworks`. What each needs is in the first lines of the example
(inline script metadata, which `uv run` also reads).
"""

import argparse
import os
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "examples"
ENVIRONMENTS = ROOT / "build" / "frameworks"
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


def environment_of(name: str) -> Path:
    """The Python of the environment of an example."""
    place = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
    return ENVIRONMENTS.joinpath(name, *place)


def needs_framework(name: str) -> bool:
    """Whether an example needs more than the official client."""
    return any(not each.startswith("mcp") for each in requirements(name))


EXAMPLES = sorted(path.stem for path in FOLDER.glob("*.py") if needs_framework(path.stem))


def main() -> int:
    """Make the environments that are missing, and run the tests of the examples."""
    parser = argparse.ArgumentParser(description="Runs the examples with frameworks.")
    parser.add_argument("examples", nargs="*", metavar="EXAMPLE", help="all if left out")
    names = parser.parse_args().examples or EXAMPLES
    if unknown := set(names) - set(EXAMPLES):
        parser.error(f"no example {', '.join(unknown)}, only {', '.join(EXAMPLES)}")
    for name in names:
        python = environment_of(name)
        venv.create(ENVIRONMENTS / name, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--upgrade"]
        subprocess.run([*pip, *requirements(name)], check=True)
    tests = ["-n", "0", "-v", "tests/examples/test_frameworks.py"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *tests], cwd=ROOT, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
