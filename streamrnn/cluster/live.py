"""How a member runs as a process: signals, systemd, HTTP."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable

from streamrnn.cluster.gateway import Gateway
from streamrnn.cluster.worker import Worker
from streamrnn.daemon.log import set_up_log
from streamrnn.daemon.systemd import notify, watchdog_s
from streamrnn.settings.config import Config
from streamrnn.system.heap import free_messages_fast

log = logging.getLogger("streamrnn")


def _at_signals(stop: Callable[[], object], renew: Callable[[], object] | None) -> None:
    loop, interrupts = asyncio.get_running_loop(), 0

    def on_signal(number: int) -> None:
        nonlocal interrupts
        interrupts += number == signal.SIGINT
        if interrupts > 1:
            os._exit(128 + signal.SIGINT)
        notify(STOPPING=1, STATUS="stopping")
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    loop.add_signal_handler(signal.SIGHUP, renew or stop)


def _ready(said: str) -> None:
    log.info("ready: %s", said)
    notify(READY=1, STATUS=said)


async def _beat() -> None:
    """Tells systemd that the loop turns."""
    wait_s = (watchdog_s() or 3.0) / 3
    while True:
        notify(WATCHDOG=1)
        await asyncio.sleep(wait_s)


def run_worker(config: Config) -> int:
    """Runs a worker until SIGTERM or SIGINT. Returns the exit code. Raises UserError."""
    set_up_log(config.log)

    async def run() -> int:
        worker = Worker(config)
        renewing: set[asyncio.Task[None]] = set()

        def renew() -> None:
            task = asyncio.create_task(worker.renew())
            renewing.add(task)
            task.add_done_callback(renewing.discard)

        _at_signals(worker.stop, renew)
        beat = asyncio.create_task(_beat())
        await worker.run(_ready)
        beat.cancel()
        return 0

    return asyncio.run(run())


def run_gateway(config: Config) -> int:
    """Runs a gateway until SIGTERM or SIGINT. Returns the exit code. Raises UserError."""
    set_up_log(config.log)
    free_messages_fast()

    async def run() -> int:
        gateway = Gateway(config)
        _at_signals(gateway.stop, None)
        beat = asyncio.create_task(_beat())
        code = await gateway.run(_ready)
        beat.cancel()
        return code

    return asyncio.run(run())
