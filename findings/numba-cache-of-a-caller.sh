#!/usr/bin/env bash
# Numba 0.68.1 keeps a compiled function under the time and size of the file that it stands in, and not of those
# whose functions it calls: after an edit of the callee's file, a new process runs the caller as it was compiled
# before. Nothing warns of it, and an edit of the caller's own file, a blank line, ends it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q numba==0.68.1 numpy==2.4.6

cat > caller.py <<'END'
import callee
from numba import njit


@njit(cache=True)
def twice(x):
    return 2 * callee.more(x)


print(twice(1))
END
callee() { printf 'from numba import njit\n\n\n@njit\ndef more(x):\n    return x + %s\n' "$1" > callee.py; }

callee 1
venv/bin/python -B caller.py > seen
callee 1000
venv/bin/python -B caller.py >> seen
echo >> caller.py
venv/bin/python -B caller.py >> seen
printf '4\n4\n2002\n' > expected
diff expected seen
echo "as it was: an edited callee is not seen, an edited caller is"
