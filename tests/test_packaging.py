"""What is installed is whole, and says of itself what is true."""

import ast
import re
import sys
import tomllib
from importlib.metadata import entry_points, metadata, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import wan_mcp

HOUSE = Path(wan_mcp.__file__).parent
PROJECT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))
NEEDED = [Requirement(line) for line in PYPROJECT["project"]["dependencies"]]
DEVELOPING = [Requirement(line) for line in PYPROJECT["dependency-groups"]["dev"]]

lists = pytest.mark.parametrize("name", ["constraints.txt", "lowest.txt"])


def names_in(node: ast.AST) -> list[str]:
    """The modules that one import statement names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def releases(name: str) -> dict[str, str]:
    """The releases that a list of .ci/ holds, by package."""
    text = (PROJECT / ".ci" / name).read_text("utf-8")
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))


def test_the_command_starts_the_same_program_as_the_module() -> None:
    """README and the hosts' settings use the one or the other (ours)."""
    [command] = entry_points(group="console_scripts", name="wan-mcp")

    assert command.value == "wan_mcp.__main__:main"


def test_the_version_is_written_down_once() -> None:
    """Code asks the installed metadata; only pyproject.toml has the number (ours)."""
    version = metadata("wan-mcp")["Version"]
    told = [path for path in HOUSE.rglob("*.py") if f'"{version}"' in path.read_text("utf-8")]

    assert version == PYPROJECT["project"]["version"]
    assert not told


@pytest.mark.parametrize("kind", [".mp4", ".png"])
def test_the_sandbox_comes_with_its_media(kind: str) -> None:
    """The demo needs no network: film, clip and picture are in the wheel (ours)."""
    sizes = [path.stat().st_size for path in HOUSE.rglob(f"*{kind}")]

    assert sizes
    assert min(sizes) > 1_000


def test_the_types_are_there_for_whoever_imports_it() -> None:
    """A type checker ignores annotations of a package without this mark (PEP 561)."""
    marks = list(HOUSE.glob("py.typed"))

    assert marks


def test_everything_imported_is_asked_for_by_name() -> None:
    """What another package happens to bring can go with its next release (ours)."""
    imported = {
        name.split(".")[0]
        for path in HOUSE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        for name in names_in(node)
    }
    owners = packages_distributions()
    foreign = imported - sys.stdlib_module_names - {"wan_mcp"}
    # pydantic pins the one pydantic_core it goes with; opentelemetry is a name that many share.
    foreign -= {"pydantic_core", "opentelemetry"}
    brought = {owners[name][0].lower().replace("_", "-") for name in foreign if name in owners}

    needed = {requirement.name for requirement in NEEDED} - {"opentelemetry-api"}
    assert needed <= brought <= needed | {"av"}  # the extra, imported where it is used


def test_the_installed_package_asks_for_what_the_project_says() -> None:
    """A stale install would hide a forgotten requirement (ours)."""
    lines = map(Requirement, requires("wan-mcp") or [])
    asked = {str(requirement) for requirement in lines if requirement.marker is None}

    assert asked == {str(requirement) for requirement in NEEDED}


@lists
def test_every_release_is_pinned_by_hash_and_names_no_index(name: str) -> None:
    """Whoever installs decides from where; the hashes decide what (ours)."""
    text = (PROJECT / ".ci" / name).read_text("utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    pinned = re.compile(r"[\w.-]+==\S+( ;[^#:/]*?)?(\s+--hash=sha256:[0-9a-f]{64})+\s*")

    assert lines
    assert not [line for line in lines if not pinned.fullmatch(line)]
    assert "://" not in text


@lists
def test_every_requirement_is_among_the_pinned_releases(name: str) -> None:
    """Run `bash .ci/lock` after a change of pyproject.toml (ours)."""
    pinned = releases(name)
    wrong = [
        requirement
        for requirement in NEEDED + DEVELOPING
        if not requirement.specifier.contains(pinned.get(requirement.name, "0"))
    ]

    assert not wrong


def test_the_lowest_releases_are_the_floors() -> None:
    """A floor that no test ran on is a guess (ours)."""
    pinned = releases("lowest.txt")
    floors = {
        requirement.name: specifier.version
        for requirement in NEEDED
        for specifier in requirement.specifier
        if specifier.operator == ">="
    }

    assert {name: as_floor(pinned[name], floor) for name, floor in floors.items()} == floors


def as_floor(release: str, floor: str) -> str:
    """A release written as short as a floor when the rest are zeros: 2.3.0 is the floor 2.3."""
    rest = release.removeprefix(floor)
    return floor if not rest.replace(".0", "") else release
