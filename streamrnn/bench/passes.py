"""Where a frame's time goes: the daemon's own loop, here in this process, with a clock between its passes."""

import tempfile
import threading
import time
from typing import NamedTuple

import numpy as np
import zmq

from streamrnn.bench.daemon import STREAMS, publishing, received, sink_in, source_in
from streamrnn.bench.limits import clock_ns
from streamrnn.daemon.pump import END, STOP, make_pump, run
from streamrnn.daemon.sockets import HIGH_WATER
from streamrnn.engine.advance import prepared
from streamrnn.engine.engine import Engine
from streamrnn.engine.stopwatch import PASSES, WAIT, make_stopwatch
from streamrnn.model.model import Model
from streamrnn.settings.sections import Faults
from streamrnn.system.heap import free_messages_fast


class RowTime(NamedTuple):
    """What the pump's thread does with a row, at full load."""

    per_second: float  # rows that the sink got
    batch_rows: float  # rows of a batch, on average
    waiting: float  # the share of its time that the thread waited for frames, or for a processor
    ns: dict[str, float]  # by pass, ns a row of its processor's time, less what the looks at the clock took


def row_time(model: Model, seconds: float) -> RowTime:
    """Runs the pump for about ``seconds``, between the same publisher and sink as the daemon."""
    free_messages_fast()
    engine = Engine(model, STREAMS, Faults(), workers=1)
    with (
        tempfile.TemporaryDirectory() as folder,
        zmq.Context() as context,
        context.socket(zmq.SUB) as source,
        context.socket(zmq.PUB) as sink,
    ):
        source.rcvhwm = sink.sndhwm = HIGH_WATER
        source.linger = sink.linger = 0
        source.subscribe(b"")
        source.connect(source_in(folder))
        sink.bind(sink_in(folder))
        pump = make_pump(engine.core, source.underlying, sink.underlying, False, "", 0)
        for _ in range(2):  # first to compile it
            watch = make_stopwatch(running=True)
            core, _kept = prepared(engine.core._replace(watch=watch))
            run.prepare(pump, core)
        thread = threading.Thread(target=run, args=(pump, core))
        thread.start()
        try:
            with publishing(folder, 0):
                seen = received(folder, seconds)
                clock = time.pthread_getcpuclockid(thread.ident or 0)
                spent, used = watch.laps.copy(), time.clock_gettime_ns(clock)
                rows, batches = core.stats.batch_rows[0], core.stats.batch.sum()
        finally:
            pump.control[STOP] = END
            thread.join()
    ns, looks = spent[:, : len(PASSES)]
    at_work = ns.sum() - ns[WAIT]
    # other threads had the processor for a part of it: in each pass alike, as it comes to them by chance
    share = min(used / at_work, 1.0)
    own = np.maximum(ns * share - looks * clock_ns(), 0) / rows
    return RowTime(
        per_second=seen.per_second,
        batch_rows=float(rows / batches),
        waiting=float(1 - used / ns.sum()),
        ns={name: float(own[place]) for place, name in enumerate(PASSES) if place != WAIT},
    )
