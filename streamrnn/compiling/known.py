"""What is known of a named tuple's numbers when a function is compiled for it: facts, not data.

A field annotated with one of these has its value in the type of the named tuple in compiled code. A branch
that such a number decides is not compiled where it cannot be taken, see ``pruning``; for another value the
function is compiled anew; but not for an argument of its entry point that stays ``unknown``.
"""

from typing import Annotated, Any, get_type_hints

Known = Annotated[int, "known"]
KnownIfZero = Annotated[int, "known if zero"]  # as the size of a part that is there or not


def known_fields(named_tuple: type) -> dict[str, bool]:
    """The fields of a named tuple that are known; with True where only a zero is."""
    hints: dict[str, Any] = get_type_hints(named_tuple, include_extras=True)
    return {name: hint is KnownIfZero for name, hint in hints.items() if hint in (Known, KnownIfZero)}
