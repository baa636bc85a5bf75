"""MCAP."""

from streamrnn.recordings.mcap.file import open_recording

__all__ = ["open_recording"]
