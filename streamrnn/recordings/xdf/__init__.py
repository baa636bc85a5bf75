"""XDF, of the Lab Streaming Layer."""

from streamrnn.recordings.xdf.file import open_recording

__all__ = ["open_recording"]
