"""Programs that tests run against, and what becomes of a test where one is missing."""

import os
import shutil

import pytest

# program -> Debian's package
PACKAGES = {
    "amtool": "prometheus-alertmanager",
    "chromium": "chromium",
    "mosquitto": "mosquitto",
    "mosquitto_passwd": "mosquitto",
    "mosquitto_pub": "mosquitto-clients",
    "openssl": "openssl",
    "prometheus": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "promtool": "prometheus",
}


def needs_programs(*names: str) -> None:
    """Skips the test where a program is missing, and says how to get it.

    Where tools/test would have installed it, as root on Debian, the test fails instead.
    """
    if not (missing := [name for name in names if shutil.which(name) is None]):
        return
    packages = " ".join(sorted({PACKAGES[name] for name in missing}))
    words = f"missing: {', '.join(missing)}; install it (Debian: apt-get install {packages})"
    if os.geteuid() == 0 and shutil.which("apt-get"):
        pytest.fail(words)
    pytest.skip(words)
