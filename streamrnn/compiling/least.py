"""``min`` and ``max`` of two numbers, in place: Numba compiles a function for each pair of types."""

import operator
from typing import Any

from numba.core import types
from numba.core.imputils import lower_builtin
from numba.core.types.misc import unliteral
from numba.core.typing.templates import AbstractTemplate, Signature, infer_global, signature


class _OfTwo(AbstractTemplate):
    metadata = {"target": "cpu"}  # noqa: RUF012  # which goes before what is for any

    def generic(self, arguments: Any, keywords: Any) -> Signature | None:
        if len(arguments) != 2 or not all(isinstance(one, types.Number) for one in arguments):
            return None
        kind = self.context.unify_types(*map(unliteral, arguments))
        return signature(kind, kind, kind)


@infer_global(min)
class _Min(_OfTwo):
    pass


@infer_global(max)
class _Max(_OfTwo):
    pass


def _choose(function: Any, comparison: Any) -> None:
    @lower_builtin(function, types.Number, types.Number)
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        """As Python does it: the first, unless the second is less, or more."""
        before = context.get_function(comparison, signature(types.boolean, *sig.args))
        return builder.select(before(builder, (args[1], args[0])), args[1], args[0])


_choose(min, operator.lt)
_choose(max, operator.gt)
