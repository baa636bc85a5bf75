"""Open Ephys: messages as its plugin writes them, one channel each, gathered into rows."""

import json
import random

import numpy as np
import pytest
from wires import CAME, CHANNELS, DROP, STREAM, block, message, samples

from streamrnn.adapters import open_ephys
from streamrnn.adapters.adapter import Harvest, Message, Plan, Rejected, RowBlock
from streamrnn.adapters.open_ephys import OpenEphysAdapter


class Gui:
    """An adapter, and messages that come 1 ms apart."""

    def __init__(self, channels: tuple[str, ...] = CHANNELS, **settings: object):
        self.adapter, self.harvest = OpenEphysAdapter(Plan(channels, **settings)), Harvest()
        self.came = CAME

    def send(self, *messages: list[bytes]) -> list[RowBlock]:
        """The blocks of all that was sent so far."""
        for parts in messages:
            self.adapter.read(Message(None, parts, self.came), self.harvest)
            self.came += 10**6
        return self.harvest.blocks

    @property
    def counted(self) -> list[tuple[str, bytes]]:
        assert all(len(found.what) < 200 for found in self.harvest.refused)
        return [(found.reason, found.topic) for found in self.harvest.refused]


def refused(reason: str, parts: list[bytes], **settings: object) -> str:
    with pytest.raises(Rejected) as caught:
        Gui(**settings).send(parts)
    assert caught.value.reason == reason
    assert len(caught.value.what) < 200
    return caught.value.what


def rows(first: int, count: int = 4) -> np.ndarray:
    return np.stack([samples(first, count, channel) for channel in range(3)], axis=1)


def test_the_channels_of_a_block_become_rows():
    gui = Gui()
    assert gui.send(*block(1, 100)[:2]) == []
    (one,) = gui.send(block(1, 100)[2])
    assert np.array_equal(one.values, rows(100))
    assert one.values.dtype == np.float64
    assert (one.stream, one.seq, one.begins) == (STREAM, 100, False)
    assert one.ts_ns.tolist() == [CAME + k * 10**6 for k in range(4)]  # of the first message, not the third
    gui.send(*block(4, 104, 7), *block(7, 111, 1))
    assert [(b.seq, len(b.values)) for b in gui.harvest.blocks] == [(100, 4), (104, 7), (111, 1)]
    assert np.array_equal(np.concatenate([b.values for b in gui.harvest.blocks]), rows(100, 12))
    assert gui.counted == []


def test_time_goes_by_the_samples():
    gui = Gui()
    gui.send(*block(1, 0))
    gui.came += 10**9  # a delay on the way
    gui.send(*block(4, 4), *block(7, 1_000_000_000, 2))
    assert gui.harvest.blocks[1].ts_ns.tolist() == [CAME + k * 10**6 for k in range(4, 8)]
    assert gui.harvest.blocks[2].ts_ns.tolist() == [CAME + 10**15, CAME + 10**15 + 10**6]
    slow = Gui()
    slow.send(
        *block(1, 0, 2, sample_rate=0.1000000014901161), *block(4, 10**6, 1, sample_rate=0.1000000014901161)
    )
    period = 10**9 / float(np.float32(0.1))
    assert abs(slow.harvest.blocks[0].ts_ns[1] - CAME - period) <= 1
    assert abs(slow.harvest.blocks[1].ts_ns[0] - CAME - round(10**6 * period)) <= 2**10
    came = Gui(time="")
    came.send(*block(1, 50))
    assert came.harvest.blocks[0].ts_ns.tolist() == [CAME + (2 - k) * 10**6 for k in (3, 2, 1, 0)]


def test_channels_in_any_order_and_others_between_them():
    gui = Gui(("c", "a"))
    gui.send(*block(1, 0, channels=8))
    assert np.array_equal(gui.harvest.blocks[0].values, rows(0)[:, [2, 0]])
    shuffled = block(9, 4, channels=8)
    random.Random(1).shuffle(shuffled)
    numbered = [message(9 + k, json.loads(m[1])["content"]["channel_num"], 4) for k, m in enumerate(shuffled)]
    gui.send(*numbered)
    assert np.array_equal(gui.harvest.blocks[1].values, rows(4)[:, [2, 0]])
    assert gui.counted == []


def test_names_of_the_configuration_and_beyond_ascii():
    gui = Gui(("x", "y"), fields={"x": "a", "y": "Kanal µ"})
    gui.send(message(1, 1, 0, channel_name="Kanal µ"), message(2, 0, 0))
    assert b"\\u00b5" in message(1, 1, 0, channel_name="Kanal µ")[1]
    assert np.array_equal(gui.harvest.blocks[0].values, rows(0)[:, :2])


def test_without_names_channels_are_told_by_their_number():
    gui = Gui()
    gui.send(*block(1, 0, channels=5, channel_name=DROP))
    assert np.array_equal(gui.harvest.blocks[0].values, rows(0))
    named = Gui(("CH3", "CH1"))
    named.send(*block(1, 0, channels=5, channel_name=DROP))
    assert np.array_equal(named.harvest.blocks[0].values, rows(0)[:, [2, 0]])


def test_streams_side_by_side():
    gui = Gui()
    probe = [message(k, k - 4, 70, 2, stream="Probe A") for k in (4, 5, 6)]
    mixed = [part for pair in zip(block(1, 0), probe, strict=True) for part in pair]
    for number, parts in enumerate(mixed):
        said = json.loads(parts[1]) | {"message_num": number}
        parts[1] = json.dumps(said).encode()
    gui.send(*mixed)
    assert [(b.stream, b.seq) for b in gui.harvest.blocks] == [(STREAM, 0), ("Probe A", 70)]
    assert gui.counted == []


def test_the_stream_of_the_configuration():
    for settings, stream in (
        ({"stream": "rat 7"}, "rat 7"),
        ({"stream": "content.stream"}, STREAM),
        ({"stream": "content.channel_num"}, "0"),
    ):
        gui = Gui(("a",), **settings)
        gui.send(message(1, 0, 0))
        assert gui.harvest.blocks[0].stream == stream
    gui = Gui(("a",))
    gui.adapter.read(Message(b"rig", message(1, 0, 0), CAME), gui.harvest)
    assert gui.harvest.blocks[0].stream == "rig"


def test_a_block_that_lacks_a_channel_is_dropped_and_counted():
    gui = Gui()
    one, two, three = block(1, 0), block(4, 4), block(7, 8)
    gui.send(one[0], one[2], *two, three[1], *block(10, 12))
    assert [b.seq for b in gui.harvest.blocks] == [4, 12]
    assert gui.counted == [("parts", STREAM.encode())] * 2
    assert "1 channels of block 0 have not come, as 'b'" in gui.harvest.refused[0].what
    assert not any(b.begins for b in gui.harvest.blocks[1:])
    assert gui.harvest.blocks[1].ts_ns[0] == CAME + 12 * 10**6  # samples count, not blocks


def test_a_block_of_another_length_is_another_block():
    gui = Gui()
    gui.send(*block(1, 0)[:2], *block(3, 0, 5))
    assert [len(b.values) for b in gui.harvest.blocks] == [5]
    assert gui.counted == [("parts", STREAM.encode())]


def test_lost_messages_of_channels_that_are_not_wanted_cost_nothing():
    gui = Gui()
    gui.send(*block(1, 0, channels=5)[:4], *block(6, 4, channels=3))
    gui.send(*block(90, 8))  # and events in between have numbers, too
    assert [b.seq for b in gui.harvest.blocks] == [0, 4, 8]
    assert gui.counted == []


def test_an_acquisition_that_is_started_anew():
    gui = Gui()
    gui.send(*block(10, 500), *block(13, 504)[:1])
    start = gui.came
    gui.send(*block(1, 0), *block(4, 4))
    gui.send(*block(2, 600))  # the message's number goes back, that of the sample does not
    assert [(b.seq, b.begins) for b in gui.harvest.blocks] == [
        (500, False),
        (0, True),
        (4, False),
        (600, True),
    ]
    assert gui.harvest.blocks[1].ts_ns[0] == start
    assert gui.harvest.blocks[3].ts_ns[0] == start + 6 * 10**6
    assert gui.counted == [("parts", STREAM.encode())]
    lacking = Gui()
    lacking.send(*block(10, 500), *block(1, 7)[:2], *block(4, 11))
    assert [(b.seq, b.begins) for b in lacking.harvest.blocks] == [(500, False), (11, True)]
    assert lacking.send(*block(7, 2))[-1].begins  # the sample's number goes back alone
    assert Gui().send(*block(1, 0))[0].begins


def test_messages_without_numbers():
    gui = Gui()
    gui.send(*block(0, 0, message_num=DROP), *block(0, 4, message_num=DROP, data_size=DROP))
    assert [b.seq for b in gui.harvest.blocks] == [0, 4]


def test_a_channel_that_comes_twice():
    gui = Gui()
    for parts in (block(1, 0)[0], message(2, 0, 0)):
        try:
            gui.send(parts)
        except Rejected as error:
            assert error.reason == "parts"
            break
    else:
        pytest.fail("taken twice")
    gui.send(*[message(3, 1, 0), message(4, 2, 0)])
    assert [b.seq for b in gui.harvest.blocks] == [0]
    with pytest.raises(Rejected, match="before"):
        gui.send(message(5, 1, 0))


def test_channels_none_of_which_is_the_models_are_counted():
    gui = Gui(("x", "y"))
    gui.send(*block(1, 0), *block(4, 4), *block(7, 8))
    assert gui.counted == [("channels", STREAM.encode())] * 2
    assert "as 'a'" in gui.harvest.refused[0].what


def test_events_and_spikes_are_passed_over():
    gui = Gui()
    one = block(1, 0)
    event = {"message_num": 2, "type": "event", "content": {"stream": STREAM, "type": 3}, "data_size": 10}
    spike = {"message_num": 3, "type": "spike", "spike": {"stream": STREAM, "num_channels": 1}}
    gui.send(
        one[0],
        [b"EVENT\0", json.dumps(event).encode(), bytes(10)],
        [b"EVENT\0", json.dumps(event).encode()],
        [b"EVENT\0", json.dumps(spike).encode(), bytes(160)],
        [b"EVENT\0"],
        message(9, 1, 0, 0),
        *one[1:],
    )
    assert [b.seq for b in gui.harvest.blocks] == [0]
    assert gui.counted == []


@pytest.mark.parametrize("parts", [[], [b""], [b"DATA\0"], [b"DATUM\0", b"{}", b""], [b"DATA\0"] * 4])
def test_other_parts(parts):
    refused("parts", parts)
    refused("parts", message(1, 0, 0)[1:])
    refused("parts", [*message(1, 0, 0), b""])


@pytest.mark.parametrize("head", [b"", b"[]", b"{}", b"{", b"\xff", b"[" * 100_000, b" " * 70_000 + b"{}"])
def test_headers_that_are_none(head):
    refused("syntax", [b"DATA\0", head, bytes(16)])


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("syntax", {"type": "parameter"}),
        ("syntax", {"type": DROP}),
        ("syntax", {"content": 5}),
        ("syntax", {"content": DROP}),
        ("syntax", {"sample_num": -1}),
        ("syntax", {"sample_num": 1.5}),
        ("syntax", {"sample_num": 2**62}),
        ("syntax", {"sample_num": DROP}),
        ("syntax", {"num_samples": -4}),
        ("syntax", {"num_samples": True}),
        ("syntax", {"num_samples": "4"}),
        ("syntax", {"message_num": "1"}),
        ("syntax", {"message_num": -1}),
        ("syntax", {"channel_name": 5}),
        ("syntax", {"channel_name": DROP, "channel_num": DROP}),
        ("syntax", {"channel_name": DROP, "channel_num": -1}),
        ("truncated", {"num_samples": 10**9}),
        ("truncated", {"num_samples": 2**63 - 1}),
        ("oversized", {"num_samples": 3}),
        ("oversized", {"data_size": 17}),
        ("oversized", {"data_size": "16"}),
        ("time", {"sample_rate": 0}),
        ("time", {"sample_rate": -1.0}),
        ("time", {"sample_rate": float("nan")}),
        ("time", {"sample_rate": float("inf")}),
        ("time", {"sample_rate": 1e-300}),
        ("time", {"sample_rate": 10**4000}),
        ("time", {"sample_rate": True}),
        ("time", {"sample_rate": DROP}),
        ("stream", {"stream": DROP}),
        ("stream", {"stream": ""}),
        ("stream", {"stream": "s" * 128}),
        ("stream", {"stream": ["s"]}),
    ],
)
def test_headers_that_cannot_be(reason, said):
    refused(reason, message(1, 0, 0, **said))


def test_times_beyond_any():
    gui = Gui(("a",))
    gui.send(message(1, 0, 0, sample_rate=0.001))
    with pytest.raises(Rejected, match="beyond"):
        gui.send(message(2, 0, 2**61, sample_rate=0.001))
    gui.send(message(3, 0, 2**61 + 4, 1, sample_rate=1e11))
    assert [b.seq for b in gui.harvest.blocks] == [0, 2**61 + 4]


def test_what_waits_is_bounded():
    gui = Gui()
    for k in range(100):
        gui.send(message(k, 0, 0, stream=f"s{k}"))
    assert len(gui.adapter._acquisitions) == open_ephys.STREAMS
    assert gui.counted == [("parts", b"s%d" % k) for k in range(100 - open_ephys.STREAMS)]
    many = open_ephys.BLOCK_BYTES // 8 + 1
    long = Gui()
    long.send(message(1, 0, 0, many))
    with pytest.raises(Rejected) as caught:
        long.send(message(2, 1, 0, many))
    assert caught.value.reason == "oversized"
    assert not long.adapter._acquisitions[STREAM].parts
    long.send(*block(4, many))
    assert [b.seq for b in long.harvest.blocks] == [many]


def test_no_number_and_infinite_ones_are_kept():
    gui = Gui(("a",))
    gui.send(message(1, 0, 0, values=np.array([np.nan, np.inf, 1, 2], "<f4").tobytes()))
    assert np.array_equal(gui.harvest.blocks[0].values[:, 0], [np.nan, np.inf, 1, 2], equal_nan=True)
