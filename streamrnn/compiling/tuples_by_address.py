"""Named tuples of arrays for the parts of an entry point: by address where Numba's inside is known."""

from typing import Any

import numba

from streamrnn.compiling.inside import KNOWN

by_address: Any
if KNOWN:
    from streamrnn.compiling.bundles import by_address
else:

    @numba.njit(_nrt=False)
    def by_address(named_tuple):  # type: ignore[no-untyped-def]
        """The named tuple itself."""
        return named_tuple
