# Sourced by tools/demo and tools/test: `setup EXTRA` makes .venv with streamrnn and, for "test", what
# the tests need, at the versions of requirements.lock. A second call finds it done.
# Everything stays in the checkout, downloads and compiled kernels too. Only where Python lacks its venv module, or
# the tests a program that they run against, and only as root and after saying so, Debian's packages of these are
# installed.

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
export NUMBA_CACHE_DIR="$root/.venv/kernels"

find_python() { # first those that every package has a wheel for; of later ones Numba has none yet
    for name in python3.14 python3.13 python3.12 python3.11 python3 python3.15; do
        if command -v "$name" >/dev/null &&
            "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 16))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "error: no Python from 3.11 to 3.15 found; install one and try again" >&2
    return 1
}

have() {
    for name; do
        command -v "$name" >/dev/null || return
    done
}

setup() {
    local target=. stamp=.venv/installed-$1 python
    [ "$1" = base ] || target=".[$1]"
    if [ -f "$stamp" ] && [ "$stamp" -nt pyproject.toml ] && [ "$stamp" -nt requirements.lock ]; then
        return
    fi
    python=$(find_python)
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            echo "setup: installing Debian's python3-venv, which this Python lacks" >&2
            apt-get update -qq && apt-get install -y -qq python3-venv >&2
        else
            echo "error: $python has no venv module; install it (Debian: apt-get install python3-venv)" >&2
            return 1
        fi
    fi
    if [ "$1" = test ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null &&
        ! have systemd-analyze ps chromium promtool amtool mosquitto mosquitto_pub openssl zsh fish cc mkfs.ext2 pivot_root; then
        echo "setup: installing Debian's systemd, chromium, prometheus and others, which tests run against" >&2
        apt-get update -qq && apt-get install -y -qq --no-install-recommends \
            systemd procps chromium fonts-dejavu-core prometheus prometheus-alertmanager mosquitto \
            mosquitto-clients openssl zsh fish \
            gcc libc6-dev libzmq3-dev e2fsprogs util-linux-extra >&2
    fi
    echo "setup: making .venv with $("$python" --version) and installing streamrnn; a minute at most, once" >&2
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    PIP_CACHE_DIR="$root/.venv/downloads" .venv/bin/python -m pip install --quiet \
        --disable-pip-version-check --constraint requirements.lock --editable "$target" >&2
    touch "$stamp"
}
