"""EDF, EDF+ and BDF."""

from streamrnn.recordings.edf.file import open_recording

__all__ = ["open_recording"]
