"""This machine's figures: time of a step, and the daemon beside zmq_proxy."""

import json
from typing import Any

import click

from streamrnn.bench.daemon import CHANNELS, HIDDEN, LATENCY_RATE, SCRAPES_PER_S, STREAMS, Comparison, compare
from streamrnn.bench.kernels import MANY, SIZES, StepTime, step_time
from streamrnn.bench.limits import Limits, measure_limits
from streamrnn.bench.passes import RowTime, row_time
from streamrnn.demo.live import MODEL
from streamrnn.kernels.affine import MOST, TILE_STREAMS, TILES
from streamrnn.model.cells import NAMES
from streamrnn.model.model import random_model
from streamrnn.model.model_file import read_model

_PAIRS = 3
_FIELDS = ("per_second", "p50_us", "p99_us", "p999_us")


def _limits_table(limits: Limits) -> str:
    return "\n".join(
        [
            f"{limits.processor}, one core at most:",
            f"{limits.multiply_adds / 1e9:8.1f} thousand million multiply-adds a second",
            f"{limits.cache_bytes / 1e9:8.1f} GB/s read from the second cache, "
            f"{limits.memory_bytes / 1e9:.1f} GB/s from memory",
            f"{limits.message_ns:8.0f} ns for a message of two parts sent and received, nothing done with it",
        ]
    )


def _kernel_table(times: list[StepTime], limits: Limits) -> str:
    lines = [
        f"us per step of one stream; many = {MANY} streams, "
        f"{TILE_STREAMS} at a time in tiles of {TILES[MOST]} blocks x {MOST} streams",
        "limit: the share that the multiply-adds of many are of what a core could do",
        f"{'cell':6}{'in':>4}{'hidden':>8}{'one':>9}{'many':>9}{'one/many':>10}{'limit':>8}",
    ]
    lines += [
        f"{t.cell:6}{t.inputs:4}{t.hidden:8}{t.one_us:9.3f}{t.many_us:9.3f}{t.gain:10.2f}"
        f"{t.share(limits.multiply_adds):8.2f}"
        for t in times
    ]
    return "\n".join(lines)


def _passes_table(times: dict[str, RowTime]) -> str:
    """A column for each model, by name."""
    lines = ["ns a row, by what the daemon's loop does with it at full load, one thread"]
    lines += [f"{'':10}" + "".join(f"{name:>12}" for name in times)]
    for name in next(iter(times.values())).ns:
        lines.append(f"{name:10}" + "".join(f"{time.ns[name]:12.0f}" for time in times.values()))
    lines.append(f"{'all':10}" + "".join(f"{sum(time.ns.values()):12.0f}" for time in times.values()))
    lines.append(f"{'rows/batch':10}" + "".join(f"{time.batch_rows:12.0f}" for time in times.values()))
    lines.append(f"{'waiting':10}" + "".join(f"{time.waiting:12.0%}" for time in times.values()))
    return "\n".join(lines)


def _daemon_table(title: str, result: Comparison) -> str:
    lines = [title, f"{'':10}{'frames/s':>12}{'p50 us':>10}{'p99 us':>10}{'p99.9 us':>10}"]
    for which in ("proxy", "daemon"):
        per_second, p50, p99, p999 = (result.median(which, field) for field in _FIELDS)
        lines.append(f"{which:10}{per_second:12,.0f}{p50:10,.0f}{p99:10,.0f}{p999:10,.0f}")
    per_second, p50, p99, p999 = (result.ratio(field) for field in _FIELDS)
    lines.append(f"{'ratio':10}{per_second:12.2f}{p50:10.2f}{p99:10.2f}{p999:10.2f}")
    return "\n".join(lines)


def _as_dict(result: Comparison) -> dict[str, Any]:
    ratios = {field: result.ratio(field) for field in _FIELDS}
    runs = {which: [run._asdict() for run in getattr(result, which)] for which in ("proxy", "daemon")}
    return {"ratio": ratios, **runs}


def bench(seconds: float, as_json: bool, kernels: bool, daemon: bool) -> int:
    """Measures for about ``seconds`` per figure and prints tables, or one JSON object."""
    report: dict[str, Any] = {}
    if kernels:
        limits, times = measure_limits(), []
        report["limits"] = limits._asdict()
        if not as_json:
            click.echo(_limits_table(limits))
        for cell in NAMES:
            for inputs, hidden in SIZES:
                click.echo(err=True, message=f"step: {cell} {inputs} -> {hidden}")
                times.append(step_time(cell, inputs, hidden, seconds))
        report["steps"] = [t._asdict() for t in times]
        if not as_json:
            click.echo(_kernel_table(times, limits))
    if daemon:
        what = f"lstm {CHANNELS} -> {HIDDEN}, {STREAMS} streams, median of {_PAIRS} pairs of {seconds:g} s"
        trained, untrained = read_model(MODEL), random_model("lstm", CHANNELS, HIDDEN)
        scraped = f"{LATENCY_RATE:,} frames/s, /metrics asked for {SCRAPES_PER_S} times a second"
        of_row: dict[str, RowTime] = {}
        for name, model in (("random", untrained), ("trained", trained)):
            click.echo(err=True, message=f"where a row's time goes: {name} weights")
            of_row[name] = row_time(model, seconds)
        report["row"] = {name: time._asdict() for name, time in of_row.items()}
        if not as_json:
            click.echo(_passes_table(of_row))
        runs = (
            ("full_load", f"full load, random weights: {what}", untrained, 0, False),
            ("full_load_trained", f"full load, the demo's model, of `train`: {what}", trained, 0, False),
            ("latency", f"{scraped}, the demo's model: {what}", trained, LATENCY_RATE, True),
        )
        for key, title, model, rate, scrape in runs:
            click.echo(err=True, message=f"daemon and zmq_proxy: {title}")
            result = compare(model, rate, _PAIRS, seconds, scrape)
            report[key] = _as_dict(result)
            if not as_json:
                click.echo(_daemon_table(title, result))
    if as_json:
        click.echo(json.dumps(report))
    return 0
