"""How a member runs as a process: signals, systemd, HTTP."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable

from streamrnn.cluster.gateway import Gateway
from streamrnn.cluster.jetstream import Unavailable
from streamrnn.cluster.worker import Worker
from streamrnn.daemon.log import set_up_log
from streamrnn.daemon.systemd import notify, watchdog_s
from streamrnn.errors import UserError
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


async def _live(member: Gateway | Worker, renew: Callable[[], object] | None) -> int:
    """Runs a member until it is told to stop, which it may be while it still waits for servers."""
    began = False

    def say_ready(said: str) -> None:
        nonlocal began
        began = True
        _ready(said)

    def stop() -> None:
        member.stop()
        if not began:
            working.cancel()

    working = asyncio.create_task(member.run(say_ready))
    _at_signals(stop, renew)
    beat = asyncio.create_task(_beat())
    try:
        return await working
    except asyncio.CancelledError:
        return 0
    except Unavailable as error:
        raise UserError(f"the NATS servers do not do it: {error}") from error
    finally:
        beat.cancel()


def run_worker(config: Config) -> int:
    """Runs a worker until SIGTERM or SIGINT. Returns the exit code. Raises UserError."""
    set_up_log(config.log)

    async def run() -> int:
        worker = Worker(config)
        renewing: set[asyncio.Task[None]] = set()

        def renew() -> None:
            if worker.ready:  # or it has the newest terms, or takes them
                task = asyncio.create_task(worker.renew())
                renewing.add(task)
                task.add_done_callback(renewing.discard)

        return await _live(worker, renew)

    return asyncio.run(run())


def run_gateway(config: Config) -> int:
    """Runs a gateway until SIGTERM or SIGINT. Returns the exit code. Raises UserError."""
    set_up_log(config.log)
    free_messages_fast()

    async def run() -> int:
        return await _live(Gateway(config), None)

    return asyncio.run(run())
