#!/usr/bin/env bash
# pyarrow 26.0.1 tries to import dateutil at every compute call that is given a scalar of Python's, where it is
# not installed: an import that fails is tried anew each time, along the whole path, and takes longer than the
# call on a small array. A pyarrow scalar made once, and installed dateutil, spare that.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q pyarrow==26.0.1

cat > expected <<'END'
100 calls with None: dateutil 100
100 calls with a pyarrow scalar: nothing
END

venv/bin/python > seen <<'END'
import sys
from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

sought = Counter()


class Listener:
    @staticmethod
    def find_spec(name, path=None, target=None):
        sought[name] += 1


mask, values = pa.array([True, False]), pa.array([1.0, 2.0])
nothing = pa.scalar(None)
sys.meta_path.insert(0, Listener)
for what, scalar in (("None", None), ("a pyarrow scalar", nothing)):
    sought.clear()
    for _ in range(100):
        pc.if_else(mask, scalar, values)
    print(f"100 calls with {what}:", ", ".join(f"{name} {n}" for name, n in sought.items()) or "nothing")
END

diff expected seen
echo "as it was: one search for dateutil a call"
