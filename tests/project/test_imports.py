"""The arrows of the package: who may import whom, read from the imports themselves."""

import ast
import graphlib
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "streamrnn"

# From the bottom up: each may import what is named beside it, and only what stands above it in this list.
# A name stands for a module or for a folder of them; of two that fit a module, the longer one counts.
ARROWS: dict[str, set[str]] = {
    "streamrnn": set(),  # the version
    "errors": set(),
    "system": set(),
    "compiling": set(),
    "stats": set(),  # what is counted: plain data
    "rows": {"errors", "compiling"},
    "model": {"errors", "system"},
    "wire": {"compiling", "stats"},
    "kernels": {"compiling", "model"},
    "streams": {"errors", "compiling", "stats", "model", "wire", "kernels"},
    "engine": {"errors", "system", "compiling", "stats", "model", "wire", "kernels", "streams"},
    "settings": {"errors"},
    "recordings": {"errors"},
    "table": {"errors", "system", "compiling", "stats", "rows", "model", "wire", "engine", "recordings"},
    "state": {"errors", "system", "model", "streams", "settings"},  # outside of a daemon, or by asking it
    "events": {
        *("streamrnn", "errors", "system", "compiling", "stats", "model", "wire", "kernels"),
        *("streams", "settings", "state"),
    },
    "web": {"streamrnn", "errors", "system", "stats", "events"},
    "adapters": {"errors", "model", "wire", "rows", "settings"},
    "mqtt": {"errors", "settings", "adapters"},
    "daemon": {
        *("streamrnn", "errors", "system", "compiling", "stats", "rows", "model", "wire", "kernels"),
        *("streams", "engine", "settings", "adapters", "mqtt", "state", "events", "web"),
    },
    "train": {"streamrnn", "errors", "compiling", "model", "kernels", "streams", "table"},
    "replay": {*("errors", "compiling", "stats", "model", "wire", "streams", "engine", "table", "train")},
    "foreign": {"errors", "model", "engine", "settings", "table"},
    "client": {"errors", "compiling", "rows", "model", "wire", "settings", "adapters", "mqtt", "table"},
    "cluster": {
        *("errors", "system", "compiling", "stats", "model", "wire", "kernels", "streams", "engine"),
        *("settings", "adapters", "mqtt", "web", "daemon"),
    },
    "demo": {"errors", "model", "wire"},
    "bench": {
        "demo",
        *(
            "errors",
            "system",
            "compiling",
            "stats",
            "model",
            "wire",
            "kernels",
            "streams",
            "engine",
            "settings",
            "daemon",
        ),
    },
    "cli": {
        *("streamrnn", "errors", "model", "settings", "recordings", "table"),
        *(
            "engine",
            "adapters",
            "mqtt",
            "daemon",
            "replay",
            "train",
            "foreign",
            "client",
            "state",
            "events",
            "cluster",
            "demo",
            "bench",
        ),
    },
    "__main__": {"cli"},
}
# All that compiled numerics may need from outside: no sockets, files, clocks or strings.
KERNEL_LIBRARIES = {"collections", "llvmlite", "math", "numba", "numpy", "operator", "typing"}

LONGEST = 350  # lines of a module

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imports(module: str) -> Iterator[str]:
    """Every module that ``module`` imports, at its top or inside a function; of ours down to the module."""
    path = MODULES[module]
    folder = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = folder[: len(folder) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                name = f"{source}.{alias.name}"
                yield name if name in MODULES else source


def of_ours(module: str) -> set[str]:
    return {name for name in imports(module) if name.split(".")[0] == "streamrnn"} - {module}


def unit(module: str) -> str:
    """The entry of ARROWS that ``module`` belongs to."""
    parts = module.split(".")[1:]
    names = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next((name for name in names if name in ARROWS), "" if parts else "streamrnn")


def test_the_modules_are_read():
    assert {
        "streamrnn",
        "streamrnn.engine.engine",
        "streamrnn.kernels.simd",
        "streamrnn.cli",
    } <= MODULES.keys()
    assert {"streamrnn.kernels.network", "numpy", "streamrnn.errors"} <= set(
        imports("streamrnn.engine.engine")
    )
    assert "streamrnn.wire.frame" in of_ours("streamrnn.streams.rules")
    assert "streamrnn.daemon.serving" in of_ours("streamrnn.cli.run")  # imported inside a function


def test_the_hall_is_tidy():
    loose = {path.name for path in PACKAGE.glob("*.py")}
    assert loose == {"__init__.py", "__main__.py", "errors.py", "stats.py"}
    long = {
        name: lines for name, path in MODULES.items() if (lines := path.read_text().count("\n")) > LONGEST
    }
    assert not long, f"of more than {LONGEST} lines"


def test_a_name_stands_for_one_class():
    places: dict[str, list[str]] = {}
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(module)
    shared = {name: found for name, found in places.items() if len(found) > 1}
    assert not shared


def test_the_table_has_no_cycle_and_nothing_that_is_gone():
    below: set[str] = set()
    for name, allowed in ARROWS.items():
        assert allowed <= below, f"{name} may import {sorted(allowed - below)}, which does not stand above it"
        below.add(name)
    assert below == {unit(module) for module in MODULES}


@pytest.mark.parametrize("module", MODULES)
def test_arrows_point_down(module):
    home = unit(module)
    assert home, f"{module} is in no entry of ARROWS: say there what it may import"
    astray = {name for name in of_ours(module) if unit(name) not in ARROWS[home] | {home}}
    assert not astray, f"{module} imports {sorted(astray)}; {home} may import {sorted(ARROWS[home])}"


def test_modules_do_not_import_each_other_in_a_circle():
    graph = {module: of_ours(module) & MODULES.keys() for module in MODULES}
    try:
        list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("streamrnn.kernels")])
def test_kernels_know_no_sockets_files_or_clocks(module):
    outside = {name.split(".")[0] for name in imports(module)} - {"streamrnn"}
    assert outside <= KERNEL_LIBRARIES, f"{module} imports {sorted(outside - KERNEL_LIBRARIES)}"


@pytest.mark.parametrize("path", sorted((ROOT / "tools").glob("*.py")), ids=lambda path: path.name)
def test_what_a_tool_imports_is_there(path):
    """Nobody runs them all, and mypy does not look at them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "streamrnn":
            module = importlib.import_module(node.module)
            gone = [
                alias.name
                for alias in node.names
                if not hasattr(module, alias.name) and f"{node.module}.{alias.name}" not in MODULES
            ]
            assert not gone, f"{node.module} has no {', '.join(gone)}"


@pytest.mark.parametrize("path", sorted((ROOT / "tools").glob("*.py")), ids=lambda path: path.name)
def test_a_tool_calls_what_it_imports_with_what_that_takes(path):
    tree, known = ast.parse(path.read_text()), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "streamrnn":
            module = importlib.import_module(node.module)
            known |= {name.asname or name.name: getattr(module, name.name, None) for name in node.names}
    calls = [one for one in ast.walk(tree) if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)]
    for node in calls:
        called = known.get(node.func.id)
        if not (inspect.isclass(called) or inspect.isfunction(called)):  # what is compiled has Numba's look
            continue
        signature, named = inspect.signature(called), [word.arg for word in node.keywords]
        given = [None for one in node.args if not isinstance(one, ast.Starred)]
        spread = len(given) < len(node.args) or None in named
        bind = signature.bind_partial if spread else signature.bind
        try:
            bind(*given, **{name: None for name in named if name is not None})
        except TypeError as error:
            pytest.fail(f"line {node.lineno}, {node.func.id}: {error}")
