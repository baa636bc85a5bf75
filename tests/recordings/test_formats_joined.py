"""Channels of three rates, of each format's own library, as the rows that train and replay take."""

import numpy as np
import pytest
import test_edf
import test_mcap
import test_mdf
import test_tdms
import test_xdf
from recorded import SECOND
from recordings.plain_join import PlainChannel, plain_join

from streamrnn.table import open_rows

FORMATS = {"tdms": test_tdms, "mdf": test_mdf, "mcap": test_mcap, "xdf": test_xdf, "edf": test_edf}


@pytest.mark.parametrize("form", FORMATS)
def test_rows_times_and_gaps_are_those_of_a_plain_reference(form, tmp_path):
    path = tmp_path / "bench.mf4"  # what it is named says nothing
    (fast, fine), *slower = FORMATS[form].bench(path)
    channels = [PlainChannel(fast, column.tolist(), 0) for column in fine.T]
    for rate, (ticks, values) in zip((10, 1), slower, strict=True):
        channels += [PlainChannel(ticks, column.tolist(), SECOND // rate) for column in values.T]
    reader = open_rows(str(path), None, period_s=0.01)
    try:
        blocks = list(reader)
    finally:
        reader.close()
    values = np.concatenate([block.values for block in blocks])
    ts, seq = (np.concatenate([getattr(block, name) for block in blocks]) for name in ("ts_ns", "seq"))
    assert (ts - ts[0]).tolist() == fast
    assert seq.tolist() == [tick // (SECOND // 100) for tick in fast]
    expected = np.array(plain_join(fast, channels)).astype(np.float32)
    assert np.array_equal(values, expected, equal_nan=True)
