"""How what is compiled is put together: what a first start waits for."""

import gc
import importlib
import importlib.util
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numba
import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher
from numba.core.registry import cpu_target

from streamrnn.compiling import sources
from streamrnn.compiling.bundles import Bundle
from streamrnn.compiling.calls import Prepared, call
from streamrnn.compiling.handing import Handed
from streamrnn.compiling.inside import is_known
from streamrnn.compiling.jit import Entry, compiled, compiling, inlined
from streamrnn.compiling.known import Known

FIRST_START_S = 20.0


class Inner(NamedTuple):
    values: np.ndarray
    factor: np.float32


class Outer(NamedTuple):
    inner: Inner
    counts: np.ndarray
    at: int


@inlined
def _add(outer, index):
    outer.counts[outer.at] += 1
    outer.inner.values[index] += outer.inner.factor
    return outer.inner.values[index]


@inlined
def _sum_up(outer, to):
    total, index = np.float32(0), 0
    while index < to:
        total += _add(outer, index)
        index += 1
    return total


@compiled(cache=False)
def whole(outer, to):
    return _sum_up(outer, to)


@compiled(cache=False)
def handed_on(outer, to):
    return _sum_up(outer, to)


def outer() -> Outer:
    return Outer(Inner(np.arange(5, dtype=np.float32), np.float32(0.5)), np.zeros(3, np.int64), 2)


@pytest.mark.parametrize("entry", [whole, handed_on])
def test_a_named_tuple_is_the_same_by_address(entry):
    given = outer()
    assert entry(given, 4) == 8
    np.testing.assert_array_equal(given.inner.values, [0.5, 1.5, 2.5, 3.5, 4])
    np.testing.assert_array_equal(given.counts, [0, 0, 4])


def test_a_part_is_compiled_for_types_and_not_for_values():
    """A loop that begins with 0 has an index that is known, at first."""
    handed_on(outer(), 4)
    assert all(numba.types.unliteral(kind) == kind for kinds in _add.overloads for kind in kinds)
    assert sum(isinstance(kinds[0], Bundle) for kinds in _add.overloads) == 1


class Kind(NamedTuple):
    what: Known
    values: np.ndarray


@compiled(cache=False)
def _of_kind(kind, one, other):
    return kind.what * 100 + np.int64(kind.values[one]) + other


@compiled(cache=False, unknown="kind")
def of_any_kind(kind):
    return np.int64(kind.values[0]) + kind.what


@compiled(cache=False)
def by_address(callee, one, other):
    return call(callee.code, callee.words, one, other)


def kind_of(what: int) -> Kind:
    return Kind(what, np.array([3, 4], np.float32))


def test_an_entry_point_is_called_by_its_address():
    prepared = [Prepared(_of_kind, kind_of(what)) for what in (1, 2)]
    assert [by_address(one.callee, 1, 5) for one in prepared] == [109, 209]


def test_functions_that_know_different_things_have_different_names():
    """By which LLVM finds them; two processes may have given both the same number."""
    names = {Handed(kind_of(what)).kind.mangling_args for what in (1, 2)}
    assert len(names) == 2
    assert {name.split(".")[0] for name, _ in names} == {"Kind"}


def test_what_stays_unknown_is_compiled_once():
    assert [of_any_kind(kind_of(what)) for what in (1, 2, 3)] == [4, 5, 6]
    assert len(of_any_kind.overloads) == 1


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_what_is_changed_to_compile_is_put_back(error):
    before, asked = gc.get_threshold(), cpu_target.typing_context.resolve_function_type
    try:
        with compiling(print):
            assert gc.get_threshold() != before
            assert compiled(cache=False)(lambda x: max(x, 2) + x)(3) == 6
            if error is not None:
                raise error
    except KeyboardInterrupt:
        pass
    assert gc.get_threshold() == before
    assert cpu_target.typing_context.resolve_function_type == asked


def test_what_was_kept_is_loaded_without_a_word(tmp_path):
    """However long the loading takes; what is compiled anew is told of."""
    program = (
        "import sys; from streamrnn.compiling import jit; jit._QUIET_S = 0.0\n"
        "from streamrnn.compiling.jit import compiling\n"
        "from streamrnn.table.numbering import TimeNumbers\n"
        "import numpy as np\n"
        "with compiling(print): TimeNumbers(1e9).number(np.zeros(9, np.int32), np.arange(1, 10) * 10**9)\n"
    )
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    said = [
        subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert said[0].startswith("compiling kernels for this machine") and said[1] == ""


@pytest.mark.parametrize(
    ("version", "known"),
    [("0.60.9", False), ("0.61.0", True), ("0.68.1", True), ("0.69.0rc1", False), ("1.0", False)],
)
def test_shortcuts_are_for_a_numba_whose_inside_is_known(version, known):
    assert is_known(version) == known


def test_without_shortcuts_the_same_comes_out(request, tmp_path):
    """Of one entry point; with --long, of all that the engine does for a model, bit for bit."""
    program = (
        "import sys; sys.path.append(sys.argv[1]); import numpy as np\n"
        "from streamrnn.compiling.inside import KNOWN\n"
        "from test_compiling import handed_on, outer, _add\n"
        "print(KNOWN, handed_on(outer(), 4), type(_add.signatures[0][0]).__name__)\n"
    )
    if request.config.getoption("--long"):
        program += "sys.path.append(sys.argv[2]); from digest import digest_of; print(digest_of('GRU'))\n"
    path = os.pathsep.join([*map(str, Path(__file__).parents[:2]), os.environ.get("PYTHONPATH", "")])
    said = []
    for plain in ("", "1"):
        environment = os.environ | {"PYTHONPATH": path, "STREAMRNN_PLAIN_NUMBA": plain}
        words = [sys.executable, "-c", program, str(Path(__file__).parent), str(ROOT / "tools")]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        said.append(done.stdout.splitlines())
    assert [lines[0] for lines in said] == ["True 8.0 Bundle", "False 8.0 NamedTuple"]
    assert said[0][1:] == said[1][1:]


def test_a_first_start_compiles_in_little_time(model_file, tmp_path, request):
    if not request.config.getoption("--long"):
        pytest.skip("compiles everything once more: with --long")
    program = (
        "import sys; from pathlib import Path; from streamrnn.settings.config import load_config\n"
        "from streamrnn.daemon.service import Service\n"
        "Service(lambda: load_config(None, {'model': sys.argv[1], 'http.listen': ''}))._compile()"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program, str(model_file)], env=environment, check=True)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < FIRST_START_S


PACKAGE = Path(sources.__file__).parents[1]
ROOT = PACKAGE.parent
ENTRIES = sorted(
    path for path in PACKAGE.rglob("*.py") if re.search(r"^@compiled", path.read_text(), re.MULTILINE)
)


def compiled_from(function: Any) -> set[Path]:
    """The files of all functions that are compiled into one, by what its names mean when it runs."""
    found, left = set[Path](), [function]
    seen = set[Any]()
    while left:
        function = left.pop()
        if function in seen:
            continue
        seen.add(function)
        found.add(Path(function.__code__.co_filename))
        names = {name: function.__globals__.get(name) for name in function.__code__.co_names}
        modules = [value for value in names.values() if isinstance(value, ModuleType)]
        values = [*names.values(), *(getattr(module, name, None) for module in modules for name in names)]
        left += [value.py_func for value in values if isinstance(value, Dispatcher | Entry)]
    return found


def entry_points(source: Path) -> list[Any]:
    name = ".".join(source.relative_to(PACKAGE.parent).with_suffix("").parts)
    module = importlib.import_module(name)
    functions = [value.py_func for value in vars(module).values() if isinstance(value, Dispatcher | Entry)]
    return [function for function in functions if function.__module__ == name]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_key_of_the_cache_knows_every_source_of_an_entry_point(entry):
    """What is left out of it would run on as it was, once it is changed."""
    known = sources.sources_of(entry)
    found = set[Path]().union(*map(compiled_from, entry_points(entry)))
    assert entry in found
    assert found <= known | {path for path in found if not path.is_relative_to(PACKAGE)}


def test_a_change_anywhere_in_the_sources_is_another_key(tmp_path):
    copy = tmp_path / PACKAGE.name
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("*.pyc", "static"))
    spec = importlib.util.spec_from_file_location("sources_of_a_copy", copy / "compiling" / "sources.py")
    assert spec is not None and spec.loader is not None
    of_copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(of_copy)
    entry = copy / "daemon" / "pump.py"
    before, known = of_copy.digest_of(entry), of_copy.sources_of(entry)
    assert {path.relative_to(copy) for path in known} == {
        path.relative_to(PACKAGE) for path in sources.sources_of(PACKAGE / "daemon" / "pump.py")
    }
    for path in copy.rglob("*.py"):
        content = path.read_bytes()
        path.write_bytes(content + b"\n# changed\n")
        of_copy._digest_of_file.cache_clear()
        assert (of_copy.digest_of(entry) != before) == (path in known), path
        path.write_bytes(content)
        of_copy._digest_of_file.cache_clear()
    assert of_copy.digest_of(entry) == before


def test_a_changed_part_is_not_met_by_what_was_kept(tmp_path):
    copy = tmp_path / PACKAGE.name
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("*.pyc", "static"))
    part, cache = copy / "kernels" / "doubled.py", tmp_path / "cache"
    source = (
        "from streamrnn.compiling.jit import inlined\n\n\n@inlined\ndef doubled(x):\n    return 2 * x + {}\n"
    )
    entry = (
        "from streamrnn.compiling.jit import compiled\nfrom streamrnn.kernels.doubled import doubled\n\n\n"
    )
    (copy / "streams" / "probe.py").write_text(f"{entry}@compiled\ndef probe(x):\n    return doubled(x)\n")
    program = (
        "from streamrnn.streams.probe import probe; print(probe(2), sum(probe.stats.cache_hits.values()))"
    )
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(tmp_path)}
    said = []
    for added in (1, 1, 1000, 1):  # the last is back where it was: what was kept then is right
        part.write_text(source.format(added))
        words = [sys.executable, "-B", "-c", program]
        ended = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, check=True)
        said.append(ended.stdout.decode().split())
    assert said == [["5", "0"], ["5", "1"], ["1004", "0"], ["5", "1"]]
