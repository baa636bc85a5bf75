"""How big a machine has to be: a daemon of the model at that load, or as near to it as this machine comes."""

import json
import math
import os
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click
from prometheus_client.parser import text_string_to_metric_families as parse

from streamrnn.bench.daemon import http_address, publishing, received, sink_in, source_in, started
from streamrnn.engine.engine import Engine
from streamrnn.engine.options import parts_of
from streamrnn.errors import UserError
from streamrnn.model.model import Model
from streamrnn.model.model_file import read_model
from streamrnn.settings.config import Config, config_text
from streamrnn.settings.http_section import Http
from streamrnn.settings.retention import parse_keep
from streamrnn.settings.sections import Input, Output
from streamrnn.streams.record import RecordLayout, layout_of
from streamrnn.streams.slots import NOTE, WORK_RECORDS, live_bytes
from streamrnn.streams.snapshot import ID_BYTES
from streamrnn.wire.frame import FRAME, PREDICTION

SPARE = 0.2  # of the memory
_MEASURED_S = 3.0
_STREAMS = 50_000  # that are measured at most
_TOPIC = 16  # bytes of an id, as is usual
_FRAMING = 2 + 2  # bytes that ZeroMQ puts before the two parts of a message
_TABLE_BYTES = 4 * 8  # of a stream in the table of ids, or a few less, and in the stack of free slots
_TICKS = os.sysconf("SC_CLK_TCK")


class Use(NamedTuple):
    """What a daemon takes at some load."""

    rows_per_s: float
    processor_s: float  # of all its threads, a second
    pump_s: float  # of the one that is busiest
    resident: int  # bytes

    @property
    def a_row_s(self) -> float:
        return self.processor_s / self.rows_per_s

    @property
    def pump_a_row_s(self) -> float:
        return self.pump_s / self.rows_per_s


class _Look(NamedTuple):
    """One look at a process."""

    when: float
    rows: float
    threads: dict[int, float]  # seconds of processor, by thread


def _read(pid: int, address: str) -> _Look:
    with urllib.request.urlopen(f"http://{address}/metrics") as response:
        families = parse(response.read().decode())
    rows = sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == "streamrnn_batch_size_sum"
    )
    threads = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        threads[int(task.name)] = (int(fields[11]) + int(fields[12])) / _TICKS
    return _Look(time.monotonic(), rows, threads)


def _resident(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


@contextmanager
def _daemon(config: Config, folder: str, streams: int) -> Iterator[tuple[int, str]]:
    """A daemon that steps as the configuration says, and keeps nothing: its process, and its first words."""
    measured = Config(
        model=config.model,
        shadow=config.shadow,
        input=Input(connect=(source_in(folder),)),
        output=Output(bind=(sink_in(folder),), format=config.output.format),
        predict=config.predict,
        streams=config.streams.model_copy(update={"capacity": streams}),
        faults=config.faults,
        adapt=config.adapt,
        http=Http(listen="127.0.0.1:0"),
    )
    file = Path(folder, "size.toml")
    file.write_text(config_text(measured))
    with started(["-m", "streamrnn", "serve", "-c", str(file)]) as (pid, line):
        yield pid, line


def measure_use(config: Config, model: Model, streams: int, rate: float, seconds: float) -> Use:
    """What a daemon takes at ``rate`` rows a second over so many streams, or as many as come through here."""
    with (
        tempfile.TemporaryDirectory() as folder,
        _daemon(config, folder, streams) as (pid, line),
        publishing(folder, rate, streams, channels=len(model.channels)),
    ):
        received(folder, 0.5)  # until it runs
        return read_use(pid, line, lambda: received(folder, seconds))


def read_use(pid: int, line: str, meanwhile: Callable[[], object]) -> Use:
    """What a daemon takes ``meanwhile``; ``line`` is the one in which it said that it is ready."""
    address = http_address(line)
    before = _read(pid, address)
    meanwhile()
    after, resident = _read(pid, address), _resident(pid)
    took, rows = after.when - before.when, after.rows - before.rows
    if rows <= 0:
        raise UserError("no row came through the daemon that is measured; is this machine too busy?")
    spent = [after.threads[each] - before.threads.get(each, 0) for each in after.threads]
    return Use(rows / took, sum(spent) / took, max(spent) / took, resident)


def _layouts(config: Config, models: list[Model]) -> list[RecordLayout]:
    """Of the records that are kept of each stream."""
    how = config.faults, None, config.predict, config.adapt.rows, 1
    return [layout_of(Engine(model, 1, *how).core.net) for model in models]


def size(
    config: Config, streams: int, rows_per_s: float, headroom: float, seconds: float = _MEASURED_S
) -> dict[str, Any]:
    """What a daemon of the configuration takes of a machine at that load, JSON-ready.

    Measured here: the load itself where this machine can carry it, beside publisher and subscriber; else as
    much as comes through, and what that comes to by row.
    """
    models = [read_model(path) for path in (config.model, config.shadow) if path]
    model, layouts = models[0], _layouts(config, models)
    some = min(streams, _STREAMS, max(round(2 * rows_per_s), 1))
    use = measure_use(config, model, some, rows_per_s, seconds)
    used, pump = rows_per_s * use.a_row_s, rows_per_s * use.pump_a_row_s
    cores = len(os.sched_getaffinity(0))
    memory = _memory(config, layouts, streams, some, use.resident)
    daemons, cores_needed = pump / (1 - headroom), used / (1 - headroom)
    machines = {"processor": cores_needed / cores, "memory": memory["needed"] / memory["here"]}
    limit = max(machines, key=lambda name: machines[name])
    return {
        "model": {"cell": model.cell, "hidden": model.hidden, "fingerprint": model.fingerprint},
        "streams": streams,
        "rows_per_s": rows_per_s,
        "headroom": headroom,
        "measured": {"streams": some, "rows_per_s": round(use.rows_per_s)},
        "processor": {
            "cores": used,
            "needed": cores_needed,
            "here": cores,
            "pump": pump,
            "us_per_row": 1e6 * use.a_row_s,
            "rows_per_s_of_a_daemon": (1 - headroom) / use.pump_a_row_s,
        },
        "memory": memory,
        "disk": _disk(config, layouts, streams),
        "network": _network(config, model, rows_per_s),
        "daemons": max(math.ceil(daemons), 1),
        "machines": max(math.ceil(machines[limit]), 1),
        "limit": limit if machines[limit] > 1 else "pump" if daemons > 1 else "",
    }


def _memory(
    config: Config, layouts: list[RecordLayout], streams: int, some: int, resident: int
) -> dict[str, int]:
    """Of so many ``streams``, where a daemon of ``some`` has so much ``resident``; bytes."""
    record = sum(4 * layout.words + ID_BYTES for layout in layouts)
    each = record + len(layouts) * (NOTE.itemsize + _TABLE_BYTES)
    program = max(resident - some * each, 0)
    slots = sum(live_bytes(layout, streams) - layout.words * 4 * WORK_RECORDS for layout in layouts)
    kept = slots + streams * (each - record)
    copy = streams * record if config.state.snapshots else 0
    journal = config.events.memory if config.events.path else 0
    whole = program + kept + copy + journal
    here = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "bytes": whole,
        "program": program,
        "streams": kept,
        "snapshot_copy": copy,
        "journal": journal,
        "needed": round(whole / (1 - SPARE)),
        "here": here,
    }


def _disk(config: Config, layouts: list[RecordLayout], streams: int) -> dict[str, float]:
    """Of snapshots, as many as stay and one more, and the journal; what is written, if all streams go on."""
    one = sum(streams * (4 * layout.words + ID_BYTES) for layout in layouts) if config.state.snapshots else 0
    newest, spans = parse_keep(config.state.keep)
    kept = newest + sum(math.ceil(age_s / period_s) for age_s, period_s in spans)
    journal = config.events.size if config.events.path else 0
    return {
        "snapshot": one,
        "snapshots": kept,
        "journal": journal,
        "bytes": (kept + 1) * one + journal,
        "bytes_per_s": one / config.state.interval,
    }


def _network(config: Config, model: Model, rows_per_s: float) -> dict[str, float]:
    """Of frames of float32, one row each, and of predictions, without what TCP adds."""
    values = len(model.outputs) * model.head_rows * parts_of(config.predict)
    message = _FRAMING + _TOPIC
    return {
        "in_bytes_per_s": rows_per_s * (message + FRAME.itemsize + 4 * len(model.channels)),
        "out_bytes_per_s": rows_per_s * (message + PREDICTION.itemsize + 4 * values),
    }


def report(config: Config, streams: int, rows_per_s: float, headroom: float, as_json: bool) -> int:
    """Prints it: a table, or one JSON object. Returns the exit code."""
    found = size(config, streams, rows_per_s, headroom)
    click.echo(json.dumps(found) if as_json else _in_words(found, config))
    return 0


def _in_words(found: dict[str, Any], config: Config) -> str:
    processor, memory, disk, network = (found[key] for key in ("processor", "memory", "disk", "network"))
    measured, rows = found["measured"], found["rows_per_s"]
    lines = [
        f"{found['model']['cell']} of {found['model']['hidden']} units, {found['streams']:,} streams, "
        f"{rows:,.6g} rows a second in all ({rows / found['streams']:.3g} a stream)",
        f"measured at {measured['rows_per_s']:,} rows a second over {measured['streams']:,} streams, beside "
        "publisher and subscriber, one row a frame",
        "",
        f"{'':18}{'takes':>12}{'needs':>12}{'here':>12}",
        f"{'cores':18}{processor['cores']:12.2f}{processor['needed']:12.2f}{processor['here']:12}",
        f"{'memory, MB':18}" + "".join(f"{memory[key] / 1e6:12,.0f}" for key in ("bytes", "needed", "here")),
        f"{'disk, MB':18}{disk['bytes'] / 1e6:12,.0f}   {_snapshots(disk, config)}",
        f"{'network, MB/s':18}{network['in_bytes_per_s'] / 1e6:12.2f} in, "
        f"{network['out_bytes_per_s'] / 1e6:.2f} out to each subscriber, without TCP's own",
        "",
        f"needs: with {found['headroom']:.0%} of the processor and {SPARE:.0%} of the memory left over",
    ]
    if found["daemons"] > 1:
        lines.append(
            f"one daemon's loop has room for {processor['rows_per_s_of_a_daemon']:,.0f} rows a second: take "
            f"{found['daemons']}, each with a share of the streams (input.topics), or a cluster, "
            "deploy/CLUSTER.md"
        )
    if found["machines"] > 1:
        lines.append(
            f"one machine like this is not enough, for its {found['limit']}: take {found['machines']}, as a "
            "cluster, deploy/CLUSTER.md, or a larger one"
        )
    if not found["limit"]:
        lines.append("this machine is enough")
    if config.input.adapted:
        lines.append(
            f"measured with frames; reading {config.input.format} takes a thread more (tools/senders.py)"
        )
    return "\n".join(lines)


def _snapshots(disk: dict[str, float], config: Config) -> str:
    if not disk["snapshot"]:
        return "no snapshots (state.snapshots)"
    return (
        f"{disk['snapshots']} snapshots of {disk['snapshot'] / 1e6:,.1f}, room for one more, a journal of "
        f"{disk['journal'] / 1e6:,.0f}; {disk['bytes_per_s'] / 1e6:,.2f} a second written"
    )
