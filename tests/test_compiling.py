"""How what is compiled is put together: what a first start waits for."""

import gc
import os
import resource
import subprocess
import sys
from typing import NamedTuple

import numba
import numpy as np
import pytest
from numba.core.registry import cpu_target

from streamrnn.bundle import Bundle, by_address
from streamrnn.jit import compiled, compiling, inlined

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
    return _sum_up(by_address(outer), to)


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


def test_a_first_start_compiles_in_little_time(model_file, tmp_path, request):
    if not request.config.getoption("--long"):
        pytest.skip("compiles everything once more: with --long")
    program = (
        "import sys; from pathlib import Path; from streamrnn.config import load_config\n"
        "from streamrnn.daemon.service import Service\n"
        "Service(lambda: load_config(None, {'model': sys.argv[1], 'http.listen': ''}))._compile()"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program, str(model_file)], env=environment, check=True)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < FIRST_START_S
