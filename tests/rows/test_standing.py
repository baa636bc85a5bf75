"""How the channels of a stream stand, for those who look at it from another thread."""

import threading
from collections.abc import Sequence

import numpy as np

from streamrnn.rows.assembler import Assembler
from streamrnn.rows.layout import FRESH, HELD, SILENT

PERIOD, HOLD = 10, 20
MINUTE = 60 * 10**9


def assembler(capacity: int = 4, channels: int = 2) -> Assembler:
    return Assembler(channels, PERIOD, hold_ns=HOLD, lateness_ns=0, capacity=capacity)


def say(rows: Assembler, name: str, updates: Sequence[tuple[int, int]], now_ns: int = 1) -> None:
    """Updates, (channel, time) each, of a stream."""
    channel, at = np.array(updates).T
    stream = np.full(len(at), rows.stream(name))
    for _ in rows.take(stream, channel, at, np.ones(len(at)), now_ns):
        pass


def test_a_channel_is_fresh_then_held_then_silent_and_its_last_value_stays_where_it_was():
    rows = assembler()
    assert rows.standing("a") is None, "never heard of"
    say(rows, "a", [(0, 9), (1, 10)])
    assert rows.standing("a") is None, "no row has left"
    found = []
    for tick in range(2, 7):
        say(rows, "a", [(0, 10 * tick)])
        standing = rows.standing("a")
        found.append((standing.how.tolist(), standing.ts_ns.tolist()))
    assert found == [
        ([FRESH, FRESH], [9, 10]),
        ([FRESH, HELD], [20, 10]),
        ([FRESH, HELD], [30, 10]),
        ([FRESH, SILENT], [40, 10]),
        ([FRESH, SILENT], [50, 10]),
    ]
    say(rows, "b", [(0, 10), (0, 20)])
    standing = rows.standing("b")
    assert standing.how.tolist() == [FRESH, SILENT]
    assert standing.ts_ns[1] < 0, "it never had a value"
    standing.how[:] = 77
    assert rows.standing("b").how.tolist() == [FRESH, SILENT], "what is given is a copy"


def test_streams_that_lack_a_channel_are_told_until_it_speaks_or_all_fall_silent():
    rows = assembler()
    for tick in range(1, 7):
        say(rows, "a", [(0, 10 * tick)])
        say(rows, "whole", [(0, 10 * tick), (1, 10 * tick)])
    assert rows.lacking(1 + MINUTE) == ["a"]
    assert rows.lacking(2 + MINUTE) == [], "it has said nothing for a minute"
    say(rows, "a", [(1, 60), (0, 70), (1, 70)], 5)
    assert rows.lacking(6) == []
    say(rows, "a", [(0, 10 * tick) for tick in range(8, 14)], 7)
    assert rows.lacking(8) == ["a"]
    rows.forget(8)
    assert rows.lacking(8) == []
    assert rows.standing("a") is None
    say(rows, "c", [(0, 10), (1, 20)])
    assert rows.standing("a") is None, "its place is another's"


def test_a_look_finds_a_stream_or_none_while_streams_come_and_go():
    """Each stream has times of its own, so that one taken for another would be seen."""
    rows, found, ended = assembler(1000, 3), [], threading.Event()
    names = [f"s{k}" for k in range(1000)]

    def look() -> None:
        while not ended.is_set():
            for k, name in enumerate(names):
                if (standing := rows.standing(name)) is not None:
                    found.append(set((standing.ts_ns // 1_000_000).tolist()) == {k})
            rows.lacking(1)

    reader = threading.Thread(target=look)
    reader.start()
    try:
        for turn in range(2, 300):
            for k in range(turn % 3, 1000, 97):
                begin = 1_000_000 * k + 100
                say(rows, names[k], [(c, begin + at) for at in (0, 10) for c in range(3)], turn)
            rows.forget(turn - 1)
    finally:
        ended.set()
        reader.join()
    assert len(found) > 100
    assert all(found)
