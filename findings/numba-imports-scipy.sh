#!/usr/bin/env bash
# Numba 0.68.1 imports scipy.linalg, where SciPy is installed, as soon as any function is compiled, or only loaded
# from its cache: also for one that adds integers. It looks whether there is a BLAS for np.dot, which nobody asked
# for. `import numba` alone does not import it, so it is the first call that takes a third of a second longer.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q numba==0.68.1 numpy==2.4.6 scipy==1.17.1

cat > add.py <<'END'
import sys

from numba import njit


@njit(cache=True)
def add(x, y):
    return x + y


before = "scipy.linalg" in sys.modules
add(1, 2)
loaded = sum(add.stats.cache_hits.values())
print("scipy.linalg before the first call:", before, "after:", "scipy.linalg" in sys.modules, "from the cache:", loaded)
END
venv/bin/python add.py > seen
venv/bin/python add.py >> seen
cat > expected <<'END'
scipy.linalg before the first call: False after: True from the cache: 0
scipy.linalg before the first call: False after: True from the cache: 1
END
diff expected seen
echo "as it was: the first call imports scipy.linalg, compiled or from the cache"
