"""MDF 4."""

from streamrnn.recordings.mdf.file import open_recording

__all__ = ["open_recording"]
