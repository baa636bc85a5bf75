"""Predictions as JSON: every field as a plain reading of the bytes has it."""

import datetime
import json
import math

import numpy as np
import pytest
from plain_object import plain_object

from streamrnn.wire.frame import BANDS, OBJECT_FIELDS, PREDICTION, TOPIC_BYTES, blank_predictions
from streamrnn.wire.objects import Objects

NAMES = ['c "0"', "\u00fcber %s", "{2}\\"]
NONE = np.zeros(len(NAMES))
I64 = np.iinfo(np.int64)


def messages(count: int, values: np.ndarray, **fields: np.ndarray) -> list[bytes]:
    """``values`` are (count, horizon, outputs)."""
    header = blank_predictions(count)
    header["kind"], header["horizon"] = 1, values.shape[1]
    for name, column in fields.items():
        header[name] = column
    return [header[k].tobytes() + values[k].astype("<f4").tobytes() for k in range(count)]


def read(objects: Objects, topics: list[bytes], payloads: list[bytes]) -> list[dict]:
    texts = objects.texts(topics, payloads)
    assert not any(b"\n" in text for text in texts)
    return [json.loads(text, parse_constant=pytest.fail) for text in texts]


def test_every_float32_is_the_shortest_decimal_that_rounds_to_it():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 1 << 32, (3000, 1, 3), np.uint32).view("<f4")
    values[0, 0] = [1.1754944e-38, 1e-45, 16777216]
    values[1, 0] = [3.4028235e38, -0.0, 0.1]
    payloads = messages(len(values), values, score=values[:, 0, 0], residual=values[:, 0, 1])
    found = read(Objects(NAMES, NONE), [b"a"] * len(values), payloads)
    for said, row in zip(found, values[:, 0].tolist(), strict=True):
        for value, text in zip(row, said["prediction"].values(), strict=True):
            assert text == (float(str(np.float32(value))) if math.isfinite(value) else None)
        assert [said["score"], said["residual"]] == list(said["prediction"].values())[:2]


def test_fields_are_those_of_the_bytes_in_any_mixture_of_lengths():
    rng = np.random.default_rng(1)
    topics, payloads = [], []
    for k in range(200):
        horizon = int(rng.integers(0, 4))
        fields = {
            "kind": rng.integers(1, 5) if horizon else 4,
            "flags": rng.integers(0, 1 << 16),
            "seq": rng.integers(0, 1 << 64, dtype=np.uint64),
            "ts_ns": rng.choice([0, 1, -1, I64.max, I64.min, I64.min + 1, 1_583_133_304_200_000_001]),
            "step": rng.integers(0, 1 << 64, dtype=np.uint64),
            "gap": rng.integers(0, 1 << 32),
            "epoch": rng.integers(0, 1 << 32),
            "score": rng.choice([np.nan, 1.5]),
            "residual": rng.choice([np.nan, 0.1]),
        }
        payloads += messages(1, rng.normal(0, 9, (1, horizon, 3)), **fields)
        topics += [f'{k}"\\\x00\n\u2028\u00e9%s{{}}'.encode()]
    for offsets in (NONE, np.array([0, 123456789.25, -1e15])):
        found = read(Objects(NAMES, offsets), topics, payloads)
        assert all(tuple(said) == OBJECT_FIELDS for said in found)
        assert found == [
            plain_object(topic.decode(), payload, NAMES, offsets.tolist())
            for topic, payload in zip(topics, payloads, strict=True)
        ]


def test_bands_are_named_by_output_and_level_and_mix_with_what_has_none():
    rng = np.random.default_rng(3)
    payloads = []
    for k in range(60):
        banded, horizon = k % 3 != 0, int(rng.integers(1, 4))
        parts = rng.normal(0, 9, (1, horizon * (7 if banded else 1), 3))
        payload = messages(1, parts, flags=BANDS * banded, score=1.5, residual=rng.choice([np.nan, 0.1]))[0]
        payloads.append(payload[:6] + bytes([horizon, 0]) + payload[8:])
    offsets = np.array([0, 123456789.25, -1e15])
    found = read(Objects(NAMES, offsets, (0.5, 0.9, 0.975)), [b"a"] * len(payloads), payloads)
    percents = ["50", "90", "97.5"]
    assert found == [plain_object("a", payload, NAMES, offsets.tolist(), percents) for payload in payloads]
    assert [*found[1]["high"]][:4] == [
        *(f"{NAMES[0]}_high{percent}" for percent in percents),
        f"{NAMES[1]}_high50",
    ]


def test_times_are_exact_and_none_is_null():
    when = [0, I64.min, 1, -1, 1_583_133_304_200_000_001]
    payloads = messages(len(when), np.zeros((len(when), 1, 3)), ts_ns=np.array(when))
    found = [said["time"] for said in read(Objects(NAMES, NONE), [b"a"] * len(when), payloads)]
    assert found == [
        *(None, None),
        "1970-01-01T00:00:00.000000001Z",
        "1969-12-31T23:59:59.999999999Z",
        "2020-03-02T07:15:04.200000001Z",
    ]
    assert datetime.datetime.fromisoformat(found[-1][:26]).microsecond == 200_000


def test_no_object_is_longer_than_the_largest():
    for offsets in (NONE, np.full(3, -1.2345678901234567e-300)):
        objects = Objects(NAMES, offsets)
        values = np.full((1, 50, 3), np.float32(-1.1754944e-38))
        full = {name: np.array(~np.uint64(0)).astype(PREDICTION[name]) for name in ("seq", "step")}
        full |= {"gap": 2**32 - 1, "epoch": 2**32 - 1, "flags": 0xFFFF, "ts_ns": 1, "kind": 2}
        full |= {"score": values[0, 0, 0], "residual": values[0, 0, 0]}
        (text,) = objects.texts([b"\x01" * TOPIC_BYTES], messages(1, values, **full))
        assert len(text) <= objects.largest(values.size)
