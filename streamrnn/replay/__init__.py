"""The engine over a recording, and what came of it."""

from streamrnn.replay.job import ReplayOptions, replay
from streamrnn.replay.learned import Learning
from streamrnn.replay.summary import Summary

__all__ = ["Learning", "ReplayOptions", "Summary", "replay"]
