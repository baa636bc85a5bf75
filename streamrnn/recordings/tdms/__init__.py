"""TDMS, of LabVIEW and DAQmx."""

from streamrnn.recordings.tdms.file import open_recording

__all__ = ["open_recording"]
