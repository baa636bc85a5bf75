"""A recurrent network over live sensor streams: one compiled step per frame, state that survives."""

__version__ = "0.1.0"
