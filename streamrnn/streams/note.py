"""What is known of a slot beside the live state, and lost with the process."""

import numpy as np

# A cache line.
NOTE = np.dtype(
    {
        "names": ["id_check", "received", "again", "batch", "tail", "began", "began_of"],
        "formats": [
            np.uint64,  # what the slot's id adds to the check of its records
            np.int64,  # CLOCK_MONOTONIC ns of the last row taken
            np.uint64,  # the next number of a source that may have started again; 0 = none
            np.int64,  # the number of the batch that last had a row of it; 0 = none
            np.int64,  # its last row there
            np.uint64,  # the number of the row that its last event began with, since this process did
            np.uint64,  # the id_check of the stream whose event that was; 0 = none
        ],
        "itemsize": 64,
    }
)
