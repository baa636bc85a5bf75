"""The daemon's end of the control sockets, over which ``ask`` speaks for `streamrnn state`."""

import logging
import os
import select
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from streamrnn.daemon.caller import Caller
from streamrnn.daemon.driver import Driver
from streamrnn.daemon.operator import Operator
from streamrnn.daemon.page.read_records import read_heads
from streamrnn.daemon.state_keeper import Keeper
from streamrnn.engine.engine import Engine
from streamrnn.errors import UserError
from streamrnn.state.ask import SOCKET, address_in
from streamrnn.streams.choose import first, holding
from streamrnn.streams.exchange import (
    find_slots,
    find_streams,
    ids_of,
    number_of,
    records_of,
    refuse_another,
    refuse_taken,
    refuse_unfit,
    refuse_unknown,
    request_resets,
    shape_of_network,
    stream_names,
    whole_records,
)
from streamrnn.streams.record import layout_of
from streamrnn.streams.relaid import relaid
from streamrnn.streams.slots import Slots
from streamrnn.streams.snapshot import HEADER_LIMIT, ID_BYTES, Snapshot, read_from, write_to
from streamrnn.streams.summary import SORTS, sort_keys
from streamrnn.system.threads import give_way

log = logging.getLogger("streamrnn")

CALLERS = 16  # at once; one more, and who has been silent longest is hung up on
_STOP_S = 3.0
_PAUSE_S = 0.1  # between two attempts to accept where there are no descriptors left
_PAGE_WORDS = 1024


class Control:
    """Answers on the control sockets of a daemon, from a thread that never touches a frame."""

    def __init__(
        self,
        folders: Sequence[Path],
        keeper: Keeper,
        driver: Driver,
        engine: Engine,
        operator: Operator,
    ):
        """``folders`` are those that the daemon holds the locks of."""
        self.busy = threading.Lock()  # with a request; held by who swaps models meanwhile
        self._folders, self._keeper, self._driver, self._engine = folders, keeper, driver, engine
        self._doors: dict[int, socket.socket] = {}
        self._callers: dict[int, Caller] = {}  # by descriptor; who came first, first
        self._wake = os.eventfd(0)
        self._thread: threading.Thread | None = None
        self._operator = operator

    def start(self) -> None:
        """Listens and answers from then on. Raises UserError where a socket cannot be made."""
        for folder in self._folders:
            try:
                door = _listen(folder)
            except OSError as error:
                raise UserError(
                    f"{folder / SOCKET}: cannot be made ({error.strerror}); name a folder of its own"
                ) from error
            self._doors[door.fileno()] = door
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends what it is at and closes the sockets; before the driver ends."""
        os.eventfd_write(self._wake, 1)
        if self._thread is not None:
            self._thread.join(_STOP_S)
        for folder in self._folders[: len(self._doors)]:
            (folder / SOCKET).unlink(missing_ok=True)

    def _run(self) -> None:
        give_way()
        while True:
            poll = select.poll()
            for descriptor in (self._wake, *self._doors, *self._callers):
                poll.register(descriptor, select.POLLIN)
            ready = [descriptor for descriptor, _ in poll.poll(self._patience_ms())]
            if self._wake in ready:
                break
            for descriptor in ready:
                if descriptor in self._doors:
                    self._admit(self._doors[descriptor])
                elif descriptor in self._callers:
                    self._hear(descriptor)
            while self._patience_ms() == 0:
                self._hang_up(next(iter(self._callers)))
        for descriptor in [*self._callers]:
            self._hang_up(descriptor)
        for door in self._doors.values():
            door.close()

    def _patience_ms(self) -> float | None:
        """Until the one who has been silent longest is hung up on; None where nobody is there."""
        for caller in self._callers.values():
            return max(caller.deadline - time.monotonic(), 0) * 1000
        return None

    def _admit(self, door: socket.socket) -> None:
        try:
            caller = Caller(door.accept()[0])
        except OSError as error:  # the caller has left, or there are no descriptors left
            log.debug("control: %s", error.strerror)
            time.sleep(_PAUSE_S)
            return
        if len(self._callers) == CALLERS:
            self._hang_up(next(iter(self._callers)))
        if caller.uid in (os.geteuid(), 0):
            self._callers[caller.fileno()] = caller
        else:
            log.warning("control: user %d may not ask", caller.uid)
            caller.tell({"error": "only the daemon's own user and root may ask"})
            caller.close()

    def _hang_up(self, descriptor: int) -> None:
        self._callers.pop(descriptor).close()

    def _hear(self, descriptor: int) -> None:
        """Takes what a caller has sent, and answers once that is a request."""
        caller = self._callers[descriptor]
        try:
            if not caller.has_asked():
                return
            with self.busy:
                said = self._answer(caller)
            caller.tell(said)
        except UserError as error:
            caller.tell({"error": str(error)})
        except OSError as error:
            caller.tell({"error": error.strerror or str(error)})
        except Exception:
            log.exception("control: a request failed")
            caller.tell({"error": "the daemon failed at it; its log says at what"})
        self._hang_up(descriptor)

    def _answer(self, caller: Caller) -> dict[str, Any]:
        match caller.request():
            case {"do": "export", **rest} if not rest:
                with self._keeper.now(caller.at_work) as snapshot:
                    return self._export(caller, snapshot, len(snapshot.ids))
            case {"do": "export", "streams": names} if _are_texts(names):
                return self._export_named(caller, names)
            case {
                "do": "export",
                "sort": str(sort),
                "prefix": str(prefix),
                "limit": int() | None as limit,
            } if sort in SORTS:
                return self._export_first(caller, sort, prefix, limit)
            case {"do": "import", "replace": bool(replace)}:
                said = self._import(caller.memory(), replace)
                what = (
                    f"imported {number_of(said['streams'])}, of which {said['replaced']:,} were there already"
                )
            case {"do": "reset", "streams": names} if names is None or _are_texts(names):
                said = {"streams": self._operator.submit(self._reset, names).result()}
                what = f"reset {number_of(said['streams'])}"
            case {"do": "hold" | "release" | "judge"} as request:
                return self._operator.act(request, f"process {caller.pid} of user {caller.uid}").result()
            case {"do": "promote", **rest} if not rest:
                said = self._operator.submit(self._operator.promote).result()
                what = f"promoted {said['fingerprint']}"
            case _:
                raise UserError(
                    "not a request that this version knows; use the command of the daemon's version"
                )
        log.info("%s, as process %d of user %d asked", what, caller.pid, caller.uid)
        return said

    def _export(self, caller: Caller, snapshot: Snapshot, held: int) -> dict[str, Any]:
        with os.fdopen(caller.memory(), "wb", closefd=False) as opened:
            write_to(opened, snapshot, caller.at_work)
        return {"streams": len(snapshot.ids), "held": held}

    def _export_named(self, caller: Caller, names: list[str]) -> dict[str, Any]:
        with self._driver.paused():
            found = self._find(names)
            held = int(self._engine.core.slots.counts[1])
        return self._export(caller, self._keeper.some(found), held)

    def _export_first(self, caller: Caller, sort: str, prefix: str, limit: int | None) -> dict[str, Any]:
        heads = read_heads(self._engine.core.slots, forecasts=False)
        which = holding(heads.ids, prefix.encode(errors="surrogatepass"), anywhere=False)
        fresh = ~heads.restored
        keys = sort_keys(sort, fresh | True, heads.step, heads.received, fresh, heads.degraded, heads.ended)
        which = first(keys, heads.ids, which, len(which) if limit is None else max(limit, 0))
        return self._export(caller, self._keeper.some(heads.slot[which]), len(heads.slot))

    def _import(self, file: int, replace: bool) -> dict[str, Any]:
        """Takes in the streams of a snapshot between two frames: all of them, or raises UserError."""
        snapshot = self._read(file)
        net = self._engine.core.net
        records = records_of(snapshot, layout_of(net))
        whole = whole_records(records, shape_of_network(net))
        refuse_unfit(snapshot.ids, whole)
        replaced = self._operator.submit(self._take_in, snapshot, records.ids, replace).result()
        return {"streams": len(whole), "replaced": replaced}

    def _take_in(self, snapshot: Snapshot, ids: np.ndarray, replace: bool) -> int:
        """Puts the streams of a snapshot that was checked into their slots. Returns how many had one."""
        found = np.empty(len(snapshot.ids), np.int64)
        _touch(self._engine.core.slots, len(found))
        with self._driver.paused():
            self._refuse_another(snapshot)  # a reload may have come in between
            slots = self._engine.core.slots
            find_slots(slots, ids, found)
            there = np.flatnonzero(found >= 0)
            if not replace:
                refuse_taken(stream_names(snapshot.ids[there]))
            if (lack := len(found) - len(there) - int(slots.counts[0])) > 0:
                raise UserError(
                    f"{number_of(lack)} more than streams.capacity = {slots.capacity:,} holds; nothing was "
                    "imported"
                )
            self._keeper.put_back("import", snapshot)
        return len(there)

    def _read(self, file: int) -> Snapshot:
        words, capacity = layout_of(self._engine.core.net).words, self._engine.capacity
        most = 8 + HEADER_LIMIT + capacity * (ID_BYTES + 4 * words)
        if os.fstat(file).st_size > most:
            raise UserError(f"more than the {capacity:,} streams of streams.capacity; nothing was imported")
        os.lseek(file, 0, os.SEEK_SET)
        with os.fdopen(file, "rb", closefd=False) as opened:
            snapshot = relaid(read_from(opened, "what was sent"), self._engine.core.net)
        self._refuse_another(snapshot)
        return snapshot

    def _refuse_another(self, snapshot: Snapshot) -> None:
        same_layout = snapshot.layout == layout_of(self._engine.core.net)._asdict()
        refuse_another(snapshot.fingerprint, self._engine.model.fingerprint, same_layout)

    def _reset(self, names: list[str] | None) -> int:
        """Has streams, None for all, begin anew with their next row; all of ``names``, or raises UserError.

        Returns how many.
        """
        with self._driver.paused():
            slots = self._engine.core.slots
            found = np.flatnonzero(slots.committed) if names is None else self._find(names)
            request_resets(slots, found)
            self._operator.succession.reset(None if names is None else ids_of(names))
        return len(found)

    def _find(self, names: list[str]) -> np.ndarray:
        """The slots of ``names``, each once, (n,) int64, while the pump stands; all of them, or UserError."""
        found = find_streams(self._engine.core.slots, ids_of(names))
        refuse_unknown([name for name, slot in zip(names, found, strict=True) if slot < 0])
        return np.unique(found)


def _touch(slots: Slots, count: int) -> None:
    """Has the memory of the next ``count`` free slots at hand: its first touch takes longer than the rest."""
    free = slots.free[max(int(slots.counts[0]) - count, 0) : int(slots.counts[0])]
    pages = np.append(np.arange(0, slots.words, _PAGE_WORDS), slots.words - 1)
    slots.state[free[:, None] * slots.words + pages].sum()


def _are_texts(names: object) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


def _listen(folder: Path) -> socket.socket:
    """A listening socket in a folder whose lock this process has: what is there already is a dead one's."""
    (folder / SOCKET).unlink(missing_ok=True)
    door = socket.socket(socket.AF_UNIX)
    try:
        os.fchmod(door.fileno(), 0o600)  # what bind makes then has this mode from the start
        with address_in(folder) as address:
            door.bind(address)
        door.listen(CALLERS)
    except OSError:
        door.close()
        raise
    door.setblocking(False)
    return door
