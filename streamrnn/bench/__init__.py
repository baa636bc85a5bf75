"""This machine's figures: time of a step, and the daemon beside zmq_proxy."""

import json
from typing import Any

import click

from streamrnn.bench.daemon import CHANNELS, HIDDEN, LATENCY_RATE, SCRAPES_PER_S, STREAMS, Comparison, compare
from streamrnn.bench.kernels import MANY, SIZES, StepTime, step_time
from streamrnn.kernels.affine import TILE_BLOCKS, TILE_STREAMS
from streamrnn.model.cells import NAMES

_PAIRS = 3
_FIELDS = ("per_second", "p50_us", "p99_us", "p999_us")


def _kernel_table(times: list[StepTime]) -> str:
    lines = [
        f"us per step of one stream; many = {MANY} streams, "
        f"in tiles of {TILE_BLOCKS} blocks x {TILE_STREAMS} streams",
        f"{'cell':6}{'in':>4}{'hidden':>8}{'one':>9}{'many':>9}{'one/many':>10}",
    ]
    lines += [
        f"{t.cell:6}{t.inputs:4}{t.hidden:8}{t.one_us:9.3f}{t.many_us:9.3f}{t.gain:10.2f}" for t in times
    ]
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
        times = []
        for cell in NAMES:
            for inputs, hidden in SIZES:
                click.echo(err=True, message=f"step: {cell} {inputs} -> {hidden}")
                times.append(step_time(cell, inputs, hidden, seconds))
        report["steps"] = [t._asdict() for t in times]
        if not as_json:
            click.echo(_kernel_table(times))
    if daemon:
        what = f"lstm {CHANNELS} -> {HIDDEN}, {STREAMS} streams, median of {_PAIRS} pairs of {seconds:g} s"
        runs = (
            ("full_load", f"full load: {what}", 0, False),
            (
                "latency",
                f"{LATENCY_RATE:,} frames/s, /metrics asked for {SCRAPES_PER_S} times a second: {what}",
                LATENCY_RATE,
                True,
            ),
        )
        for key, title, rate, scrape in runs:
            click.echo(err=True, message=f"daemon and zmq_proxy: {title}")
            result = compare(rate, _PAIRS, seconds, scrape)
            report[key] = _as_dict(result)
            if not as_json:
                click.echo(_daemon_table(title, result))
    if as_json:
        click.echo(json.dumps(report))
    return 0
