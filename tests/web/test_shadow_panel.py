"""The page where a shadow runs: both models side by side, in a real browser."""

import numpy as np
import pytest
from browser import DESK, PHONE, assert_everyone_can_use, assert_it_fits_a_phone, chromium, opener, until
from daemons import serving
from models import untrained

from streamrnn.model.model_file import read_model, write_model

ROWS = np.cumsum(np.random.default_rng(8).normal(0, 2, (210, 3)), axis=0).astype(np.float32)
ROWS[200:] += 500
NAME = "<b>pump</b>"


@pytest.fixture(scope="module")
def daemon(model_file, tmp_path_factory):
    """One with a shadow, whose stream has an event with both models."""
    shadow = tmp_path_factory.mktemp("shadow") / "shadow.safetensors"
    write_model(untrained(seed=4, hidden=7, sample_period_s=0.01), shadow)
    with serving(model_file, {"shadow": str(shadow)}) as daemon, daemon.line() as line:
        line.send_rows(NAME, ROWS)
        line.answers(len(ROWS))
        yield daemon


@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
def test_both_are_shown_side_by_side(daemon, viewport):
    with chromium() as browser, opener(browser)(daemon.http, viewport=viewport) as page:
        until(page, lambda: page.is_visible("#shadow-figures"), "the shadow")
        told = page.inner_text("#shadow-about")
        assert read_model(daemon.config.shadow).fingerprint[:12] in told and "rows that both had" in told
        figures = {
            row[0]: row[1:]
            for row in page.evaluate(
                "[...document.querySelectorAll('#shadow-figures tbody tr')]"
                ".map((row) => [...row.cells].map((cell) => cell.textContent))"
            )
        }
        assert all(float(each) > 0 for each in figures["error, in standard deviations"])
        assert figures["c0"][0] != figures["c0"][1] and figures["events"][:2] == ["1", "1"]
        assert figures["of these alone"][:2] == ["0", "0"]
        assert page.inner_text("#shadow-events tbody td:nth-child(2)") == NAME
        assert_everyone_can_use(page)
        if viewport == PHONE:
            assert_it_fits_a_phone(page)


def test_without_one_there_is_no_panel(model_file):
    with serving(model_file) as daemon, chromium() as browser, opener(browser)(daemon.http) as page:
        until(page, lambda: page.inner_text("#connection") == "live", "the daemon")
        assert not page.is_visible("#shadow")
