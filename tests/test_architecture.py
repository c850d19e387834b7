"""The rules of the house that no linter knows: who may import what, and how long things may get."""

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import wan_mcp

HOUSE = Path(wan_mcp.__file__).parent

# A room is a module or a package right under wan_mcp. To each, the rooms it may know; nothing else.
ROOMS = {
    "errors": "",
    "logs": "",
    "wording": "",
    "clock": "",
    "models": "errors",
    "web": "logs",
    "storage": "clock errors logs models web wording",
    "settings": "storage web",
    "pixeldojo": "errors logs models web",
    "ledger": "errors logs models storage wording",
    "tenants": "clock errors ledger logs models wording",
    "inputs": "errors models storage web wording",
    "payments": "clock errors inputs ledger logs models pixeldojo storage wording",
    "polling": "clock errors ledger logs models payments pixeldojo",
    "videos": "clock errors inputs ledger models storage web wording",
    "jobs": "clock errors inputs ledger models payments pixeldojo polling videos",
    "app": "clock errors inputs jobs ledger logs models payments pixeldojo polling settings "
    "storage surface tenants videos web wording",
    "surface": "errors inputs jobs ledger logs models polling storage videos web wording",
    "server": "app clock logs settings storage surface tenants",
    "transports": "front_desk logs tenants web",
    "front_desk": "",
    "sandbox": "",  # an independent witness of the vendor's words
    "cli": "clock errors front_desk ledger models pixeldojo sandbox server "
    "settings storage surface tenants transports videos web wording",
    "__main__": "cli front_desk server settings transports",
    "__init__": "",
}

# To each thing from outside, the rooms or modules that may use it at run time.
OUTSIDE = {
    "mcp": "surface server transports cli.demo",
    "httpx": "pixeldojo.exchange web.documents web.fetch storage.sending cli.demo_sandbox",
    "httpcore": "web.fetch web.header_limit",
    "truststore": "pixeldojo.exchange web.documents web.fetch storage.sending",
    "av": "inputs.probe inputs.preparing videos.contact_sheet videos.content sandbox",
    "PIL": "inputs.preparing.pictures",
    "pillow_heif": "inputs.preparing.pictures",
    "opentelemetry": "pixeldojo.tracing surface.door",
    "prometheus_client": "transports.operations.metrics",
    "sqlite3": "ledger.sqlite ledger.rows",
    "psycopg": "ledger.postgres",
    "cryptography": "tenants.keys",
    "starlette": "transports.http transports.operations transports.sign_in transports.guarded "
    "transports.own_key transports.uploads cli.gallery",
    "jwt": "transports.sign_in",
    "uvicorn": "transports.http transports.operations cli.gallery",
    "obstore": "storage.object_store",
    "h11": "sandbox storage.lending_server transports.operations.web_server",
    "dotenv": "settings",
    "json5": "cli.hosts.json_text",
    "tomlkit": "cli.hosts.toml_yaml",
    "ruamel": "cli.hosts.toml_yaml",
    "argparse": "cli.commands cli.admin cli.jobs.command_line",
    "os.environ": "__main__",
    "os.getenv": "",
    "sys.argv": "__main__",
}

# What a host would wait for at every start, although `initialize` needs none of it.
LATER = {
    *(
        "httpx",
        "sqlite3",
        "psycopg",
        "av",
        "obstore",
        "prometheus_client",
        "wan_mcp.pixeldojo.client",
        "wan_mcp.transports.http",
    ),
    *("wan_mcp.sandbox", "wan_mcp.inputs", "wan_mcp.jobs"),
}

# What Python loads fast enough for the first answer, which is given before all else is imported.
EARLY = {"wan_mcp.__main__", "wan_mcp.front_desk.desk"}
SLOW = {"typing", "dataclasses", "inspect", "pathlib", "logging", "asyncio", "importlib.metadata"}

LONGEST_FUNCTION = 40
LONGEST_MODULE = 400
MOST_ROOMS = 24
MOST_MODULES_AT_ONE_LEVEL = 15


def name_of(path: Path) -> str:
    """A module's name inside wan_mcp, as "jobs.service"; a package's own is its `__init__`."""
    return ".".join(path.relative_to(HOUSE).with_suffix("").parts)


MODULES = {name_of(path): path for path in HOUSE.rglob("*.py")}


@cache
def tree_of(module: str) -> ast.Module:
    """The syntax tree of a module. It is made for a test that needs it, not for each process."""
    return ast.parse(MODULES[module].read_text("utf-8"))


def imported(tree: ast.AST) -> Iterator[str]:
    """Everything a piece of code imports, as dotted names down to the imported thing."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def used(module: str) -> frozenset[str]:
    """What a module uses at run time: its imports, and dotted names such as `os.environ`."""
    tree = tree_of(module)
    names = set(imported(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            names -= set(imported(node))
        elif isinstance(node, ast.Attribute):
            names.add(ast.unparse(node))
    return frozenset(names)


def modules_among(names: Iterable[str]) -> set[str]:
    """The modules that these dotted names lead to, as "jobs.service"."""
    inside = {name.removeprefix("wan_mcp.") for name in names if name.startswith("wan_mcp.")}
    return {module for name in inside if (module := module_of(name))}


def module_of(name: str) -> str | None:
    """The module that a dotted name is, or is defined in; a package stands for its `__init__`."""
    parent = name.rpartition(".")[0]
    candidates = (name, f"{name}.__init__", parent, f"{parent}.__init__")
    return next((candidate for candidate in candidates if candidate in MODULES), None)


def within(name: str, wholes: str) -> bool:
    """Whether a dotted name is one of these, or a part of one."""
    return any(f"{name}.".startswith(f"{whole}.") for whole in wholes.split())


def test_a_room_imports_only_the_rooms_below_it() -> None:
    """The table is the direction of the whole house; a new room needs its row first (ours)."""
    assert {module: above for module in MODULES if (above := rooms_above(module))} == {}


def rooms_above(module: str) -> set[str]:
    """The rooms that a module imports and may not."""
    room = module.split(".")[0]
    rooms = {
        name.split(".")[1] for name in imported(tree_of(module)) if name.startswith("wan_mcp.")
    }
    return rooms - {room} - set(ROOMS[room].split())


def test_the_table_of_rooms_has_no_circle() -> None:
    """A circle in it would permit one in the house (ours)."""
    below = {room: others.split() for room, others in ROOMS.items()}

    assert set(TopologicalSorter(below).static_order()) == set(ROOMS)


def test_no_import_circle_between_modules() -> None:
    """Not even one of types alone: such modules cannot be read one at a time (ours)."""
    imports = {module: modules_among(imported(tree_of(module))) for module in MODULES}
    circle: list[str] = []
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as exc:
        circle = exc.args[1]

    assert circle == []


def test_the_table_names_no_room_that_is_gone() -> None:
    """A row without a room would permit imports that nobody asked for (ours)."""
    assert set(ROOMS) == {module.split(".")[0] for module in MODULES}


MAP = re.findall(r"^    (\w+) +\w", wan_mcp.__doc__ or "", re.MULTILINE)
"""The rooms that the docstring of the package explains, from the top down."""


def test_the_package_docstring_explains_each_room_in_one_line() -> None:
    """It is the map of the code (ours)."""
    assert sorted(MAP) == sorted(set(ROOMS) - {"__init__"})


@pytest.mark.parametrize("room", MAP)
def test_the_package_docstring_lists_a_room_above_those_it_imports(room: str) -> None:
    """So the map also shows the direction of imports (ours)."""
    assert set(ROOMS[room].split()) <= set(MAP[MAP.index(room) :])


def test_the_top_level_has_few_rooms() -> None:
    """A reader can look through them all (ours).

    `__init__` is no room: it has no code, only the list of the rooms.
    """
    assert len(set(ROOMS) - {"__init__"}) <= MOST_ROOMS


def test_no_package_has_many_modules_at_one_level() -> None:
    """A longer level needs a package of its own for some of its modules (ours)."""
    levels = Counter(module.rpartition(".")[0] for module in MODULES if "__init__" not in module)
    del levels[""]  # the top level has its own limit

    assert {
        level: count for level, count in levels.items() if count > MOST_MODULES_AT_ONE_LEVEL
    } == {}


@pytest.mark.parametrize("thing", OUTSIDE)
def test_a_thing_from_outside_stays_in_its_rooms(thing: str) -> None:
    """One seam for each foreign vocabulary, one reader of the environment and of argv (ours)."""
    users = {module for module in MODULES if any(within(name, thing) for name in used(module))}

    assert not {module for module in users if not within(module, OUTSIDE[thing])}


def test_start_up_loads_nothing_that_initialize_can_do_without() -> None:
    """One host drops a server that needs 1.1 s for `initialize` (observed elsewhere)."""
    rooms = "wan_mcp.server, wan_mcp.settings, wan_mcp.transports.stdio"
    # What was there before is not ours: coverage measures subprocesses, and brings sqlite3 along.
    code = f"import sys; old = {{*sys.modules}}; import {rooms}; print(*{{*sys.modules}} - old)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()

    assert "wan_mcp.server" in loaded
    assert not LATER & set(loaded)


def test_first_answer_needs_nothing_but_a_few_modules_of_the_standard_library() -> None:
    """Each other module would be waited for before the first answer (ours)."""
    code = f"""
import sys
sys.path.insert(0, {str(HOUSE.parent)!r})
old = {{*sys.modules}}
import {", ".join(EARLY)}
print(*{{*sys.modules}} - old)
"""
    loaded = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    roots = {name.split(".")[0] for name in loaded}

    assert roots <= {*sys.stdlib_module_names, "wan_mcp"}
    assert not SLOW & set(loaded)


def test_no_function_is_longer_than_a_screen() -> None:
    """40 lines without the docstring; half of the functions have 8 or fewer (ours)."""
    long = [
        (module, node.name, length)
        for module in MODULES
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := lines_of(node)) > LONGEST_FUNCTION
    ]

    assert not long


def test_no_module_grows_past_its_limit() -> None:
    """A module that needs more becomes two (ours)."""
    lines = {module: len(path.read_text("utf-8").splitlines()) for module, path in MODULES.items()}

    assert {module: count for module, count in lines.items() if count > LONGEST_MODULE} == {}


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The length of a function without its docstring."""
    documented = ast.get_docstring(function) is not None
    first = function.body[0]
    docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


LEAST_PATIENCE_SECONDS = 600


def limits(path: Path) -> Iterator[tuple[str, float]]:
    """The limits in seconds of a test module that stop what hangs, and where each is."""
    source = path.read_text("utf-8")
    tree = ast.parse(source)
    pauses = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.With)
        and "suppress(subprocess.TimeoutExpired)"
        in {ast.unparse(item.context_expr) for item in block.items}
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or id(node) in pauses:
            continue
        called = ast.unparse(node.func)
        given = node.args[:1] if called.endswith("fail_after") else []
        if called.endswith((".run", ".wait", ".communicate")):
            given = [word.value for word in node.keywords if word.arg == "timeout"]
        for value in given:
            if isinstance(value, ast.Constant) and isinstance(value.value, int | float):
                virtual = "# virtual" in source.splitlines()[value.lineno - 1]
                yield f"{path.name}:{value.lineno}", float("inf") if virtual else value.value


def test_a_slow_machine_makes_no_test_fail() -> None:
    """A limit on real time only stops a test that hangs (ours).

    A limit in virtual time has the comment "virtual time" on its line. The benches, which measure
    real time, are run by hand.
    """
    tests = Path(__file__).parent
    paths = (path for path in tests.rglob("*.py") if "bench" not in path.parts)
    short = [
        f"{place}: {seconds} s"
        for path in paths
        for place, seconds in limits(path)
        if seconds < LEAST_PATIENCE_SECONDS
    ]

    assert not short


FORBIDDEN_WORDS = {"told", "rota", "roster", "resigned", "trouble"}
"""Each stood for several things, or for none that a reader could guess."""


def identifiers(tree: ast.AST) -> Iterator[str]:
    """Every name that a piece of code defines or uses."""
    for node in ast.walk(tree):
        values = [getattr(node, field, None) for field in ("id", "attr", "arg", "name", "asname")]
        yield from (value for value in values if isinstance(value, str))
        if isinstance(node, ast.Global | ast.Nonlocal):
            yield from node.names


def words_of(identifier: str) -> set[str]:
    """The words of a name in snake_case or CamelCase, in small letters."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", identifier)}


@pytest.mark.parametrize("root", [HOUSE, Path(__file__).parent], ids=["wan_mcp", "tests"])
def test_no_name_contains_a_word_that_hides_its_meaning(root: Path) -> None:
    """One name for each thing, from the glossary (ours)."""
    found = {
        f"{path.relative_to(root)}: {name}"
        for path in root.rglob("*.py")
        for name in [path.stem, *identifiers(ast.parse(path.read_text("utf-8")))]
        if words_of(name) & FORBIDDEN_WORDS
    }

    assert not found
