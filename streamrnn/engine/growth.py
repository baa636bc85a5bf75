"""How errors add up in a rollout: what a small change of one row changes in those that follow.

To first order the error h rows ahead is the sum of psi_i e_(t+h-i), over i from 0 to h - 1, of the errors one
row ahead, with psi_0 the unit matrix and psi_i what the forecast i rows further on answers to a change of a
row (the impulse response; Luetkepohl 2005, New Introduction to Multiple Time Series Analysis, 2.2.2). If
errors of different rows and channels have nothing to do with each other their squares add up, and that of
output k is the sum over c of growth[h, c, k] r_c^2, growth[h] the sum of psi_i^2, element by element.
"""

from collections.abc import Callable

import numpy as np

from streamrnn.engine.answers import Answers
from streamrnn.kernels.affine import packed_rows
from streamrnn.kernels.network import aligned
from streamrnn.model.model import Model
from streamrnn.streams.ahead import lead_weights, leads_of
from streamrnn.streams.bands import LEADS, Bands
from streamrnn.wire.frame import END

CHANGE = 0.1  # standard deviations of a channel
OFF = 0.01  # likewise, that rows are off their means: those may be codes for a missing value
WARMING = 100  # rows, beyond those that the head looks back to, or a window has
MOST = 1e12  # as far as a float32's square root of it means anything


def measure_growth(feed: Callable[..., Answers], model: Model, rows: int) -> np.ndarray:
    """``Bands.growth`` of a model that forecasts all its channels, (rows * channels * out_width,) float32.

    ``feed`` is that of an engine with so many ``rows`` in its rollouts, and room for a stream for each
    channel and one more. What the network answers is taken where it mostly is, behind rows of means. A
    network that does not come to numbers there is taken to add errors up as a random walk does.
    """
    channels = len(model.channels)
    ids = [f"{k}" for k in range(channels + 1)]
    streams = np.arange(channels + 1)
    usual = np.tile((model.input_mean + OFF * model.input_std).astype(np.float32), (channels + 1, 1))
    for _ in range(WARMING + 2 * model.highway + model.window):
        said = feed(ids, streams, usual)
    row = said.values.copy()
    row[streams[:-1], streams[:-1]] += (CHANGE * model.output_std).astype(np.float32)
    several = feed(ids, streams, row, flags=np.full(channels + 1, END, np.uint16)).several
    answers = np.repeat(np.eye(channels)[:, np.newaxis], rows, axis=1)  # (channel, step, output)
    if len(several) == channels + 1:
        changed = several.astype(np.float64)
        answers[:, 1:] = ((changed[:-1] - changed[-1]) / model.output_std / CHANGE)[:, :-1]
    growth = np.cumsum(answers**2, axis=1).clip(0, MOST)
    packed = no_growth(channels, rows)
    packed.reshape(rows, channels, -1)[:, :, :channels] = growth.swapaxes(0, 1)
    return packed


def with_growth(
    bands: Bands, model: Model, rows: int, feed_of: Callable[[Bands], Callable[..., Answers]]
) -> Bands:
    """Bands for rollouts of so many rows, 0 = none.

    ``feed_of`` gives the ``feed`` of an engine whose bands are these, for ``measure_growth``.
    """
    if not (bands.number and rows):
        return bands
    leads = np.zeros(LEADS, np.int64)
    leads[: len(leads_of(rows))] = leads_of(rows)
    weights = aligned(rows * LEADS)
    weights[:] = lead_weights(rows).reshape(-1)
    growth = no_growth(len(model.channels), rows)
    bands = bands._replace(growth=growth, rows=rows, leads=leads, weights=weights)
    return bands._replace(growth=measure_growth(feed_of(bands), model, rows))


def no_growth(channels: int, rows: int) -> np.ndarray:
    """Room for it: zeros."""
    return aligned(rows * channels * packed_rows(channels))
