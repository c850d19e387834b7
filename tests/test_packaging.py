"""The installed package is complete, and its metadata is true."""

import ast
import re
import sys
import tomllib
from importlib.metadata import (
    distribution,
    entry_points,
    metadata,
    packages_distributions,
    requires,
)
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import wan_mcp

PACKAGE = Path(wan_mcp.__file__).parent
PROJECT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))
NEEDED = [Requirement(line) for line in PYPROJECT["project"]["dependencies"]]
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
BROUGHT_BY_EXTRAS = {
    Requirement(line).name for extra in ("media", "storage", "postgres") for line in EXTRAS[extra]
}
"""What is imported only where it is used."""
DEVELOPING = [
    requirement
    for line in [*EXTRAS["media"], *EXTRAS["test"], *PYPROJECT["dependency-groups"]["dev"]]
    if (requirement := Requirement(line)).name != "wan-mcp"  # an extra may contain another one
]

LOCKS = sorted(path.relative_to(PROJECT / ".ci") for path in (PROJECT / ".ci").rglob("*.txt"))

lists = pytest.mark.parametrize("name", ["constraints.txt", "lowest.txt"])


def names_in(node: ast.AST) -> list[str]:
    """The modules that an import statement names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def releases(name: str) -> dict[str, str]:
    """The releases in a list of .ci/, by package."""
    text = (PROJECT / ".ci" / name).read_text("utf-8")
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))


def test_the_command_starts_the_same_program_as_the_module() -> None:
    """README and the settings of hosts use either of them (ours)."""
    [command] = entry_points(group="console_scripts", name="wan-mcp")

    assert command.value == "wan_mcp.__main__:main"


def test_the_version_is_written_only_in_pyproject() -> None:
    """Code reads it from the installed metadata (ours)."""
    version = metadata("wan-mcp")["Version"]
    copies = [path for path in PACKAGE.rglob("*.py") if f'"{version}"' in path.read_text("utf-8")]

    assert version == PYPROJECT["project"]["version"]
    assert not copies


@pytest.mark.parametrize("suffix", [".mp4", ".png"])
def test_the_sandbox_contains_its_media(suffix: str) -> None:
    """The demo needs no network: its videos and its image are in the wheel (ours)."""
    sizes = [path.stat().st_size for path in PACKAGE.rglob(f"*{suffix}")]

    assert sizes
    assert min(sizes) > 1_000


def test_type_checkers_can_use_the_annotations() -> None:
    """They ignore the annotations of a package without this file (documented: PEP 561)."""
    assert (PACKAGE / "py.typed").is_file()


def test_everything_imported_is_a_named_requirement() -> None:
    """A package that only another one requires can disappear with its next release (ours)."""
    imported = {
        name.split(".")[0]
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        for name in names_in(node)
    }
    owners = packages_distributions()
    foreign = imported - sys.stdlib_module_names - {"wan_mcp"}
    # pydantic pins its pydantic_core; several packages share the name opentelemetry.
    foreign -= {"pydantic_core", "opentelemetry"}
    brought = {canonicalize_name(owners[name][0]) for name in foreign if name in owners}

    needed = {requirement.name for requirement in NEEDED} - {"opentelemetry-api"}
    assert needed <= brought <= needed | BROUGHT_BY_EXTRAS


def test_the_installed_package_is_the_one_of_this_folder() -> None:
    """Otherwise servers that tests start would run other code than the tests import (ours).

    Where it fails, install the project again. In CI the folder has no wan_mcp/.
    """
    here = {path.relative_to(PROJECT): path for path in (PROJECT / "wan_mcp").rglob("*.py")}
    files = distribution("wan-mcp").files or []
    installed = {Path(file): Path(str(file.locate())) for file in files if file.suffix == ".py"}
    compared = here if here and installed else {}  # an editable install has no file of its own

    assert {name: compared[name].read_bytes() for name in compared} == {
        name: path.read_bytes() for name, path in installed.items() if compared
    }


def test_the_installed_package_requires_what_the_project_says() -> None:
    """A stale install would hide a forgotten requirement (ours)."""
    lines = map(Requirement, requires("wan-mcp") or [])
    required = {str(requirement) for requirement in lines if requirement.marker is None}

    assert required == {str(requirement) for requirement in NEEDED}


@pytest.mark.parametrize("name", LOCKS, ids=str)
def test_every_release_is_pinned_by_hash_and_no_index_is_named(name: Path) -> None:
    """The index is a setting of the machine; the hashes decide what is installed (ours)."""
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
    """A floor on which no test ran is a guess (ours)."""
    pinned = releases("lowest.txt")
    floors = {
        requirement.name: specifier.version
        for requirement in NEEDED
        for specifier in requirement.specifier
        if specifier.operator == ">="
    }

    assert {name: as_floor(pinned[name], floor) for name, floor in floors.items()} == floors


def as_floor(release: str, floor: str) -> str:
    """A release as short as its floor if only zeros follow: 2.3.0 becomes 2.3."""
    rest = release.removeprefix(floor)
    return floor if not rest.replace(".0", "") else release
