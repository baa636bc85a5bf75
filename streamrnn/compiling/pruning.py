"""Branches that cannot be taken, as the type of a named tuple tells, and all that they alone call.

``if net.memory > 0:`` is compiled for a network that has a memory, and is nothing at all for one that has
none. Numba by itself finds out what a field is only when all of a function has its types.
"""

import operator
from collections.abc import Callable
from typing import Any

from numba.core import ir, types
from numba.core.analysis import compute_cfg_from_blocks
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.ir_utils import build_definitions

from streamrnn.compiling.bundles import Bundle

_OPERATORS: set[Callable[..., Any]] = {
    operator.eq,
    operator.ne,
    operator.lt,
    operator.le,
    operator.gt,
    operator.ge,
    operator.and_,
    operator.or_,
}


class _Unknown(Exception):
    pass


class _Facts:
    """What can be told of the variables of a function before they have types."""

    def __init__(self, function: Any, arguments: Any) -> None:
        self._defined, self._arguments = function._definitions, arguments

    def of(self, variable: Any) -> Any:
        """The value of a variable; its type where that is a named tuple's; a list for a tuple.

        Raises _Unknown.
        """
        definitions = self._defined.get(variable.name, ())
        if len(definitions) != 1:
            raise _Unknown
        found = definitions[0]
        if isinstance(found, ir.Var):
            return self.of(found)
        if isinstance(found, ir.Const | ir.Global | ir.FreeVar):
            return found.value
        if isinstance(found, ir.Arg):
            return _known(self._arguments[found.index])
        how = getattr(self, f"_{found.op}", None) if isinstance(found, ir.Expr) else None
        if how is None:
            raise _Unknown
        return how(found)

    def _getattr(self, expression: Any) -> Any:
        bundle = self.of(expression.value)
        if not isinstance(bundle, Bundle):
            raise _Unknown
        return _known(bundle.fields.get(expression.attr))

    def _binop(self, expression: Any) -> Any:
        one, other = self.of(expression.lhs), self.of(expression.rhs)
        if expression.fn not in _OPERATORS or not (isinstance(one, int) and isinstance(other, int)):
            raise _Unknown
        return expression.fn(one, other)

    def _unary(self, expression: Any) -> Any:
        value = self.of(expression.value)
        if expression.fn is not operator.not_ or not isinstance(value, int):
            raise _Unknown
        return not value

    def _call(self, expression: Any) -> Any:
        if self.of(expression.func) is not bool:
            raise _Unknown
        value = self.of(expression.args[0])
        if not isinstance(value, int):
            raise _Unknown
        return bool(value)

    def _cast(self, expression: Any) -> Any:
        return self.of(expression.value)

    def _build_tuple(self, expression: Any) -> Any:
        return expression.items

    def _exhaust_iter(self, expression: Any) -> Any:
        return self.of(expression.value)

    def _static_getitem(self, expression: Any) -> Any:
        items = self.of(expression.value)
        if not isinstance(items, list | tuple) or not isinstance(expression.index, int):
            raise _Unknown
        item = items[expression.index]
        return self.of(item) if isinstance(item, ir.Var) else item


def _known(kind: Any) -> Any:
    if isinstance(kind, types.Literal):
        return kind.literal_value
    if isinstance(kind, Bundle):
        return kind
    raise _Unknown


def _pruned(function: Any, facts: _Facts) -> bool:
    """Whether a branch became a jump to where it always goes."""
    pruned = False
    for block in function.blocks.values():
        branch = block.body[-1]
        if isinstance(branch, ir.Branch):
            try:
                taken = branch.truebr if facts.of(branch.cond) else branch.falsebr
            except _Unknown:
                continue
            block.body[-1] = ir.Jump(taken, loc=branch.loc)
            pruned = True
    return pruned


@register_pass(mutates_CFG=True, analysis_only=False)
class Pruning(FunctionPass):
    """Before Numba looks for types."""

    _name = "pruning_of_what_is_known"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        function, pruned = state.func_ir, False
        while _pruned(function, _Facts(function, state.args)):
            for dead in compute_cfg_from_blocks(function.blocks).dead_nodes():
                del function.blocks[dead]
            function._definitions = build_definitions(function.blocks)
            pruned = True
        return pruned
