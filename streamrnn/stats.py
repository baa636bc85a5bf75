"""What the pump counts: arrays that compiled code fills and a scrape reads without a lock.

Every count is one aligned 64-bit number with a single writer, so a reader on another thread sees each
value whole. All but the number of streams only grow. What was refused last is written to one of two records
by turns, and the count of its reason, moved on behind it, says which one is whole.
"""

from typing import NamedTuple

import numpy as np

# Why a frame, or one row of it, was not answered, the value of the `reason` label: what it is, what to do.
WHY = {
    "parts": (
        "Not two parts, a topic and a payload; of another format, not the parts that it has.",
        "Send the stream's id in a part of its own, before the values; or say in `input.stream` whose the "
        "messages of one part are. If they are JSON, say so in `input.format`.",
    ),
    "topic": (
        "The first part is no stream id: empty, over 127 bytes, or not UTF-8; of a raw message also one with "
        "control characters, or that begins with `{` or `[`. Or a topic is not as `input.topic` says.",
        "Send the stream's id alone there, 1 to 127 bytes of UTF-8; or correct `input.topic`.",
    ),
    "magic": (
        "The payload does not begin with `SR`, as every frame does.",
        'Send the header before the values, set `input.format = "raw"` for values alone, or name the format '
        "that comes there.",
    ),
    "version": ("A header of another version than 1.", "Write 1 into byte 2."),
    "dtype": (
        "A header that names an unknown type of values; of another format, a type that is no number.",
        "Write 1 (float32), 2 (float64), 3 (int16) or 4 (int32) into byte 3 of a frame.",
    ),
    "flags": ("A header with a flag that nobody has defined.", "Leave all bits but 1, 2, 4 and 8 at 0."),
    "rows": ("A header that says 0 rows.", "Write the number of rows into bytes 6 and 7, low byte first."),
    "truncated": (
        "Shorter than a header, or than its header says; of a raw message, than a row.",
        "Send rows x channels values of the type that the header says.",
    ),
    "oversized": (
        "Longer than its header says; of a raw message, not a whole number of rows.",
        "Send rows x channels values of the type that the header says; if frames come where raw messages are "
        'awaited, set `input.format = "frame"`.',
    ),
    "channels": (
        "Whole rows, but of another number of channels than the model's.",
        "Send the channels that `streamrnn inspect` lists, all of them, in that order.",
    ),
    "float64": (
        "A raw message of twice the size of a row: float64, or two rows; which, it does not say.",
        "Send float32, one row a message; or frames, whose header says type and rows.",
    ),
    "infinite": (
        "A row with an infinite value, or one that is infinite as float32.",
        "Send NaN where a sensor has no value.",
    ),
    "missing": (
        'A row with NaN that nothing fills in: a stream\'s first, or any with `faults.missing = "reject"`.',
        "Begin a stream with a row that is complete. Of single values look which channel has not spoken yet.",
    ),
    "implausible": (
        "A row of a raw message that no sensor of the model can have sent: text, integers or floats whose "
        "high byte comes first look like this.",
        "Send float32, low byte first, and NaN for what is missing; or frames, whose header says the type.",
    ),
    "capacity": (
        "A row of a new stream while every slot is taken.",
        "Raise `streams.capacity`, or lower `streams.idle_timeout`.",
    ),
    "diverged": (
        "A row whose step, after which its stream begins anew, or whose answer was not finite.",
        "Look at its values: the network has seen nothing like them. If all look right, train it again.",
    ),
    # of messages that an adapter reads; behind the others, whose places are codes
    "syntax": (
        "Not what `input.format` says: no JSON, no msgpack, or no header where one should be.",
        "Name the format that its sender speaks.",
    ),
    "value": (
        "Text, or anything else but a number, where a value should be; or a key that stands there twice.",
        "Send numbers, and null or NaN for what is missing.",
    ),
    "shape": (
        "A shape that is neither a row nor rows, or that its bytes do not have.",
        "Send [channels], or [rows, channels].",
    ),
    "time": (
        "A source time that cannot be read, or is of no time that rows are made for.",
        'Send ISO 8601 or a number; say its unit in `input.time_unit`, or `input.time = ""`: when it came.',
    ),
    "stream": (
        "A message that says nowhere whose it is, or not in 1 to 127 bytes that can be printed.",
        "Say in `input.topic` or `input.stream` where that stands, or whose all are.",
    ),
    "channel": (
        "A value of a channel that the model has not got, or an object with none of its channels.",
        "Say in `[input.fields]` what its channels are called there; or subscribe to less.",
    ),
}
REASONS = tuple(WHY)
TOPIC_KEPT = 127  # bytes
# What was refused last for a reason.
REFUSAL = np.dtype(
    [
        ("first_ns", np.int64),  # CLOCK_REALTIME of the first for this reason
        ("latest_ns", np.int64),
        ("got", np.int64),  # the size that was wrong: bytes, or of "parts" their number; NO_SIZE = none was
        ("wanted", np.int64),
        ("channel", np.int32),  # NO_CHANNEL = of none in particular
        ("value", np.float32),  # of that channel
        ("topic_bytes", np.int64),
        ("topic", np.uint8, TOPIC_KEPT),  # as it came, or what of it there is room for
    ],
    align=True,
)
NO_SIZE = NO_CHANNEL = -1
# what comes of a row; REJECTED + i for the i-th of REASONS
PREDICTED, LATE_ROW, REJECTED = 0, 1, 2
# what a predicted row is answered by, as bits: what the network says at it, and rows that go on from there
OWN, SEVERAL = 1, 2

# why a stream's state went back to zero: the value of the `reason` label
RESETS = (
    "frame",  # a frame said RESET
    "end",  # the sequence before had ended
    "max_gap",
    "restart",  # the source began its numbers again after a silence
    "diverged",
    "degraded",  # saturated for too many steps in a row
    "request",  # `streamrnn state reset`
    "idle",  # let go
)
STAGES = ("queue", "step", "total")

# upper bounds of the latency histograms, ns: 1, 2, 5 per decade from 1 us to 1 s; one more bucket above
LATENCY_BOUNDS_NS = np.array(
    [base * 10**decade for decade in range(3, 9) for base in (1, 2, 5)] + [10**9], np.int64
)
# upper bounds of the frame age, ns: 100 us to 1,000 s
AGE_BOUNDS_NS = np.array([10**decade for decade in range(5, 13)], np.int64)
# upper bounds of the batch size, rows
BATCH_BOUNDS = 2 ** np.arange(10, dtype=np.int64)

# indices into Stats.counters
RECEIVED, LATE, MISSING_ROWS, PREDICTIONS, STREAMS, ANOMALIES = range(6)


class Stats(NamedTuple):
    """Counts since the start, int64. Histograms hold plain (not cumulative) buckets."""

    counters: np.ndarray  # (6,) messages received, rows late, rows missing, predictions, live streams, events
    rejected: np.ndarray  # (len(REASONS),)
    refused: np.ndarray  # (2 * len(REASONS),) of REFUSAL: of each the record 2 * reason + count % 2 is whole
    resets: np.ndarray  # (len(RESETS),)
    latency: np.ndarray  # (len(STAGES), len(LATENCY_BOUNDS_NS) + 1)
    latency_ns: np.ndarray  # (len(STAGES),) sums
    age: np.ndarray  # (len(AGE_BOUNDS_NS) + 1,)
    age_ns: np.ndarray  # (1,) sum, float64: a source whose clock is wrong is decades old
    batch: np.ndarray  # (len(BATCH_BOUNDS) + 1,)
    batch_rows: np.ndarray  # (1,) sum

    @classmethod
    def zeros(cls) -> "Stats":
        def count(*shape: int) -> np.ndarray:
            return np.zeros(shape, np.int64)

        stages, latencies = len(STAGES), len(LATENCY_BOUNDS_NS) + 1
        return cls(
            counters=count(6),
            rejected=count(len(REASONS)),
            refused=np.zeros(2 * len(REASONS), REFUSAL),
            resets=count(len(RESETS)),
            latency=count(stages, latencies),
            latency_ns=count(stages),
            age=count(len(AGE_BOUNDS_NS) + 1),
            age_ns=np.zeros(1, np.float64),
            batch=count(len(BATCH_BOUNDS) + 1),
            batch_rows=count(1),
        )
