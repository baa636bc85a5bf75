"""The live state: a file on tmpfs that the next process takes over, bit for bit, or not at all."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from models import untrained
from plain_rules import record_of, vouch_for
from slots_by_hand import admit_stream, find_slot, live_streams

from streamrnn.daemon.state_keeper import Keeper
from streamrnn.engine.engine import Engine
from streamrnn.errors import ConfigError, UserError
from streamrnn.kernels.network import Network
from streamrnn.model.model import Model
from streamrnn.settings.sections import Faults, State
from streamrnn.streams import live, live_header
from streamrnn.streams.live import FILE, LOCK, LiveFile, hold_lock, read_live
from streamrnn.streams.live_header import PAGE
from streamrnn.streams.record import CHECK, COUNT, ENDED, ID_WORDS, RECEIVED, SLOT, STEP, layout_of
from streamrnn.streams.recovery import drop, recover
from streamrnn.streams.slots import WORK_RECORDS, Slots, id_text, id_words, live_bytes

pytest_plugins = ["disk"]

CAPACITY, NAMES = 4, ["a", "b", "valve/温度"]
MODEL = untrained("lstm", channels=2, hidden=3)
OTHER = untrained("lstm", channels=2, hidden=3, seed=9)  # of the same shape
NOW = 10**18  # ns; later than any row
HEADER_BYTES = live_header.HEADER.itemsize


class Process:
    """What a daemon does with its live state, from its start to its last step."""

    def __init__(self, folder: Path, model: Model = MODEL, capacity: int = CAPACITY, reset: str = ""):
        def home(network: Network, work: int) -> np.ndarray:
            self.file = LiveFile(folder, network, model.fingerprint, capacity, reset)
            return self.file.block

        self.engine = Engine(model, capacity, Faults(), home)
        self.slots = self.engine.core.slots

    def recover(self) -> list[str]:
        """The streams that were taken over; the names of those that were not are in ``lost``."""
        bad = np.zeros(self.slots.capacity, np.uint8)
        if self.file.taken_over:
            recover(self.engine.core.net, self.slots, NOW, bad)
        self.lost = [name for name, slot in live_streams(self.slots) if bad[slot]]
        drop(self.slots, bad)
        self.file.publish()
        return [name for name, _ in live_streams(self.slots)]


def feed(engine: Engine, count: int = 9, first: int = 0) -> None:
    """Rows of each stream, from number ``first``, on which alone they depend."""
    for at in range(first, first + count):
        rows = np.random.default_rng(at).normal(size=(len(NAMES), 2)).astype(np.float32)
        engine.feed(NAMES, np.arange(len(NAMES)), rows, np.full(len(NAMES), at, np.uint64))


_held: list[int] = []


def kill() -> None:
    """What the kernel does when a process ends, here this one: its locks are free."""
    while _held:
        os.close(_held.pop())


@pytest.fixture(autouse=True)
def locks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Notes every lock, also of a start that failed."""

    def hold(folder: Path) -> int:
        _held.append(hold_lock(folder))
        return _held[-1]

    monkeypatch.setattr(live, "hold_lock", hold)
    yield


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder on tmpfs that is not there yet."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as above:
        yield Path(above) / "live"


@pytest.fixture
def file(folder: Path) -> Path:
    """The file that a process with three streams left."""
    process = Process(folder)
    assert process.recover() == []
    feed(process.engine)
    kill()
    return folder / FILE


def kept(slots: Slots) -> dict[str, bytes]:
    """The committed record of each stream."""
    return {name: record_of(slots, name).tobytes() for name, _ in live_streams(slots)}


def kept_in(file: Path) -> dict[str, bytes]:
    """The same, from a file that nobody steps."""
    process = Process(file.parent)
    found = kept(process.slots) if process.recover() else {}
    kill()
    return found


def overwrite(file: Path, at: int, data: bytes) -> None:
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(data)


# what is taken over


def test_a_file_is_taken_over_bit_for_bit(folder, file):
    content = file.read_bytes()[PAGE:]
    process, never_killed = Process(folder), Engine(MODEL, CAPACITY, Faults())
    assert process.file.taken_over
    assert process.recover() == NAMES
    assert process.lost == []
    assert process.slots.counts.tolist() == [CAPACITY - len(NAMES), len(NAMES)]
    work = 4 * (WORK_RECORDS + 1) * process.slots.words
    assert bytes(process.file.block)[:-work] == content[:-work]
    feed(process.engine, first=9)
    feed(never_killed, 18)
    for name in NAMES:
        found, expected = (record_of(each, name).copy() for each in (process.slots, never_killed.core.slots))
        for record in (found, expected):  # when a row came differs, and the check of that
            record.view(np.uint64)[[RECEIVED, CHECK]] = 0
        assert found.tobytes() == expected.tobytes()


def test_every_life_takes_over_from_the_one_before(folder, file):
    for life in range(1, 6):
        process = Process(folder)
        assert process.file.taken_over
        assert process.recover() == NAMES
        feed(process.engine, first=9 * life)
        kill()
    records = [np.frombuffer(record, np.uint64) for record in kept_in(file).values()]
    assert [int(record[STEP]) for record in records] == [54] * 3


def test_a_stream_that_never_committed_is_not_there(folder, file):
    """A kill between a stream's admission and its first commit leaves a slot as free as it was."""
    process = Process(folder)
    process.recover()
    assert admit_stream(process.slots, id_words("new")) >= 0
    kill()
    process = Process(folder)
    assert process.recover() == NAMES
    assert process.slots.counts.tolist() == [1, 3]
    assert not process.slots.ids.reshape(CAPACITY, ID_WORDS)[3].any()
    assert admit_stream(process.slots, id_words("new")) == 3


def test_a_stream_that_was_being_let_go_is_gone(folder, file):
    """Killed after the first store of its end: the rest of it means nothing, and is cleared."""
    process = Process(folder)
    process.recover()
    slot = int(find_slot(process.slots, id_words("b")))
    process.slots.committed[slot] = 0
    kill()
    process = Process(folder)
    assert process.recover() == ["a", NAMES[2]]
    assert process.lost == []
    assert not process.slots.state.reshape(-1, process.slots.words)[slot].any()


def test_a_time_that_has_not_come_is_now(folder, file):
    process = Process(folder)
    recover(process.engine.core.net, process.slots, 1, np.zeros(CAPACITY, np.uint8))
    assert process.slots.notes["received"][: len(NAMES)].tolist() == [1] * 3


def test_what_a_file_holds_can_be_read_without_taking_it_over(file):
    remains = read_live(file)
    assert remains.fingerprint == MODEL.fingerprint
    assert remains.ids.tobytes() == b"".join(id_words(name).tobytes() for name in NAMES)
    assert remains.records.tobytes() == b"".join(kept_in(file).values())


# its header


def headers(file: Path) -> list[int]:
    """Where the copies of the header begin that were ever written."""
    return [
        at for at in (0, PAGE // 2) if file.read_bytes()[at : at + 8] == live_header.MAGIC.ljust(8, b"\0")
    ]


def test_every_byte_of_the_header_counts(file):
    """The one copy there is: changed anywhere, the file is as good as none; put right, it is taken over."""
    (at,) = headers(file)
    network = Engine(MODEL, 1, Faults()).core.net
    content = file.read_bytes()
    for byte in range(at, at + HEADER_BYTES):
        for flip in (0xFF, 1 << byte % 8):
            overwrite(file, byte, bytes([content[byte] ^ flip]))
            found = LiveFile(file.parent, network, MODEL.fingerprint, CAPACITY)
            assert (found.taken_over, found.why_not) == (False, "its header is damaged")
            kill()
        overwrite(file, byte, content[byte : byte + 1])
    assert list(kept_in(file)) == NAMES


def test_one_damaged_copy_of_the_header_leaves_the_other(file):
    whole = kept_in(file)
    assert headers(file) == [0, PAGE // 2]
    content, network = file.read_bytes(), Engine(MODEL, 1, Faults()).core.net
    for at in headers(file):
        for byte in range(at, at + HEADER_BYTES):
            overwrite(file, byte, bytes([content[byte] ^ 0xFF]))
            found = LiveFile(file.parent, network, MODEL.fingerprint, CAPACITY)
            assert found.taken_over
            assert bytes(found.block) == content[PAGE:]
            kill()
            overwrite(file, byte, content[byte : byte + 1])
    assert kept_in(file) == whole


def test_both_copies_of_the_header_damaged(file):
    kept_in(file)
    for at in headers(file):
        overwrite(file, at + 20, b"\xff")
    process = Process(file.parent)
    assert (process.file.taken_over, process.file.why_not) == (False, "its header is damaged")


def test_the_rest_of_the_page_means_nothing(file):
    kept_in(file)
    for at in range(0, PAGE, PAGE // 2):
        overwrite(file, at + HEADER_BYTES, b"\xa5" * (PAGE // 2 - HEADER_BYTES))
    assert list(kept_in(file)) == NAMES


def test_another_boot(file, monkeypatch, tmp_path):
    other = tmp_path / "boot_id"
    other.write_text("00000000-1111-2222-3333-444444444444\n")
    monkeypatch.setattr(live, "_BOOT_ID", other)
    process = Process(file.parent)
    assert (process.file.taken_over, process.file.why_not) == (False, "of another boot of this machine")
    assert process.recover() == []
    kill()
    assert kept_in(file) == {}


def test_another_format(file, monkeypatch):
    file.unlink()
    with monkeypatch.context() as patched:
        patched.setattr(live, "FORMAT", 7)
        Process(file.parent).recover()
    kill()
    with pytest.raises(ConfigError, match="of format 7, this version knows 5; run the version that wrote it"):
        Process(file.parent)


# another model


def test_a_file_of_another_model_is_refused(file):
    content = file.read_bytes()
    with pytest.raises(ConfigError) as refused:
        LiveFile(file.parent, Engine(OTHER, 1, Faults()).core.net, OTHER.fingerprint, CAPACITY)
    assert refused.value.exit_code == 78
    for words in (str(file), MODEL.fingerprint, OTHER.fingerprint, "--on-mismatch=reset"):
        assert words in str(refused.value)
    assert file.read_bytes() == content


@pytest.mark.parametrize("capacity", [CAPACITY, 9])
def test_a_file_of_another_model_is_replaced_when_told_to(file, capacity):
    process = Process(file.parent, OTHER, capacity, reset="--on-mismatch=reset")
    assert not process.file.taken_over
    assert process.file.remains is None
    for words in (MODEL.fingerprint, "--on-mismatch=reset"):
        assert words in process.file.why_not
    assert process.recover() == []
    kill()
    with pytest.raises(ConfigError, match=OTHER.fingerprint):
        Process(file.parent)


def test_a_model_of_another_layout_is_refused_even_by_the_same_name(file):
    wide = untrained("lstm", channels=2, hidden=20)
    with pytest.raises(ConfigError, match="holds the state of this model with adaptation"):
        LiveFile(file.parent, Engine(wide, 1, Faults()).core.net, MODEL.fingerprint, CAPACITY)


def test_a_model_that_is_taking_over(file):
    """Killed meanwhile, either may go on; once it has, only the successor."""
    process = Process(file.parent)
    process.recover()
    process.file.announce(MODEL.fingerprint, OTHER.fingerprint)
    kill()
    for model in (OTHER, MODEL):
        process = Process(file.parent, model)
        assert process.file.taken_over
        kill()
    process = Process(file.parent)
    process.file.adopt(OTHER.fingerprint)
    kill()
    with pytest.raises(ConfigError, match="--on-mismatch"):
        Process(file.parent)
    kill()
    process = Process(file.parent, OTHER)
    assert process.recover() == NAMES


# another capacity, another length


def keeper(folder: Path, capacity: int, workers: int = 1) -> tuple[Keeper, Engine]:
    """A daemon's own way to its streams."""
    made = Keeper(State(live=str(folder)))
    home = partial(made.home, fingerprint=MODEL.fingerprint, capacity=capacity)
    engine = Engine(MODEL, capacity, Faults(), home, workers=workers)
    made.compile(engine)
    return made, engine


@pytest.mark.parametrize("capacity", [3, 5, 100])
def test_another_capacity_moves_the_streams(file, capacity):
    whole = kept_in(file)
    made, engine = keeper(file.parent, capacity)
    made.recover()
    kill()
    assert engine.core.slots.counts.tolist() == [capacity - 3, 3]
    moved = kept(engine.core.slots)
    assert list(moved) == NAMES
    for name in NAMES:
        assert stated(moved[name]) == stated(whole[name])
    process = Process(file.parent, capacity=capacity)
    assert process.file.taken_over
    assert process.recover() == NAMES
    assert kept(process.slots) == moved


def test_other_workers_move_the_streams_there_and_back(file, caplog):
    """How many records there are to work in is said in the file, and can be others."""
    whole = kept_in(file)
    for workers in (3, 2, 1):
        made, engine = keeper(file.parent, CAPACITY, workers)
        with caplog.at_level("INFO", "streamrnn"):
            made.recover()
        assert "the live state was of other workers; its streams moved" in caplog.text
        assert list(kept(engine.core.slots)) == NAMES == list(kept_in_remains(file))
        kill()
    assert {name: stated(record) for name, record in kept_in(file).items()} == {
        name: stated(record) for name, record in whole.items()
    }


def kept_in_remains(file: Path) -> list[str]:
    """The streams that `streamrnn state` sees in a file that nobody holds."""
    return [id_text(words) for words in read_live(file).ids.reshape(-1, ID_WORDS)]


def stated(record: bytes) -> bytes:
    """All of a record but what its commits to a slot left there."""
    words = np.frombuffer(record, np.uint64).copy()
    words[[CHECK, COUNT, SLOT]] = 0
    return words.tobytes()


def test_too_small_a_capacity_is_refused_and_the_file_left(file):
    whole = kept_in(file)
    made, _ = keeper(file.parent, 2)
    with pytest.raises(ConfigError, match=r"more streams than streams.capacity = 2 .*; set it to 3"):
        made.recover()
    kill()
    assert kept_in(file) == whole


def test_a_damaged_stream_does_not_move(file):
    at = file.read_bytes().index(NAMES[1].encode(), PAGE + 8 * ID_WORDS)
    overwrite(file, at, b"c")
    made, engine = keeper(file.parent, 9)
    made.recover()
    kill()
    assert [name for name, _ in live_streams(engine.core.slots)] == [NAMES[0], NAMES[2]]


def test_cut_at_any_length(file):
    content, network = file.read_bytes(), Engine(MODEL, 1, Faults()).core.net
    lengths = [0, 1, 7, HEADER_BYTES - 1, HEADER_BYTES, PAGE // 2 - 1, PAGE // 2, PAGE - 1, PAGE, PAGE + 1]
    lengths += [*np.random.default_rng(0).integers(PAGE, len(content), 50), len(content) - 1]
    for length in [*lengths, len(content) + 1]:
        file.write_bytes((content + b"\0")[:length])
        for capacity in (CAPACITY, 9):
            found = LiveFile(file.parent, network, MODEL.fingerprint, capacity)
            assert not found.taken_over
            assert found.remains is None
            assert found.why_not in ("cut short", "its header is damaged")
            kill()
    file.write_bytes(content)
    assert list(kept_in(file)) == NAMES


def test_a_file_with_holes(file):
    """What a hole swallowed is dropped; all memory is at hand again once the file is taken over."""
    whole, size = kept_in(file), file.stat().st_size
    os.truncate(file, PAGE + 8 * ID_WORDS * CAPACITY + 64)  # after the counters
    os.truncate(file, size)
    process = Process(file.parent)
    assert process.file.taken_over
    assert file.stat().st_blocks * 512 >= size
    assert process.recover() == []
    assert process.lost == NAMES
    feed(process.engine)
    assert set(kept(process.slots)) == set(whole)


# what is damaged


def test_a_flip_of_any_bit_loses_a_stream_and_says_so_or_nothing(file, request):
    """Never is a stream another than it was. Of records to work in that no step has used, some bytes do."""
    process = Process(file.parent)
    process.recover()
    kill()
    content = np.frombuffer(file.read_bytes()[PAGE:], np.uint8)
    slots, whole = process.slots, kept(process.slots)
    ids = dict(live_streams(slots))
    current = np.zeros(content.size, np.int64)  # 1 + the slot whose stream a byte is part of
    of_ids, of_counters = current[: slots.ids.nbytes], current[slots.ids.nbytes :]
    of_records = current[-slots.state.nbytes :].reshape(-1, 4 * slots.words)[:, : 4 * slots.past_at]
    for slot in ids.values():
        of_ids[slot * 8 * ID_WORDS :][: 8 * ID_WORDS] = 1 + slot
        of_counters[8 * slot :][:8] = 1 + slot
        of_records[slot] = 1 + slot
    block, bad, net = process.file.block, np.zeros(CAPACITY, np.uint8), process.engine.core.net
    used = content.size - slots.work * 4 * slots.words + 2 * len(NAMES) * 4 * slots.words
    long = request.config.getoption("--long")
    for at in (*range(used), *range(used, content.size, 1 if long else 97)):
        for flip in (0xFF, *(1 << bit for bit in range(8) if long or bit == at % 8)):
            block[:] = content
            block[at] ^= flip
            slots.table[:], bad[:] = 0, 0
            recover(net, slots, NOW, bad)
            found = {name: slot for name, slot in ids.items() if find_slot(slots, id_words(name)) == slot}
            lost = [slot for slot in range(CAPACITY) if bad[slot]]
            assert slots.counts[1] == len(found), (at, flip)
            for name in found:
                assert record_of(slots, name).tobytes() == whole[name], (at, flip, name)
            missing = {slot for name, slot in ids.items() if name not in found}
            assert missing == set(lost) & set(ids.values()), (at, flip)
            assert missing == ({current[at] - 1} if current[at] else set()), (at, flip)
            drop(slots, bad)
            assert slots.counts.tolist() == [CAPACITY - len(found), len(found)]


class Forgery(NamedTuple):
    """A record that has its check, and what is wrong with it."""

    word: int  # of float32
    value: float
    seen: bool


FORGERIES = {
    "nothing": Forgery(-1, 0.25, False),
    "not a number": Forgery(-1, np.nan, True),
    "an infinite cell state": Forgery(-1, np.inf, True),
    "an infinite input": Forgery(32, -np.inf, True),
    "a hidden state at its bound": Forgery(-32, 1.0, False),
    "a hidden state past its bound": Forgery(-32, -1.001, True),
    "no reason to begin anew": Forgery(ENDED, float(np.uint32(99).view(np.float32)), True),
}


@pytest.mark.parametrize("kind", FORGERIES)
def test_a_record_must_hold_what_a_step_leaves_behind(file, kind):
    forgery, process = FORGERIES[kind], Process(file.parent)
    process.recover()
    record = record_of(process.slots, "b")
    record[forgery.word] = forgery.value
    vouch_for(process.slots, record, id_words("b"))
    kill()
    process = Process(file.parent)
    expected = [name for name in NAMES if not (forgery.seen and name == "b")]
    assert process.recover() == expected
    assert process.lost == [name for name in NAMES if name not in expected]


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        (id_words("c"), True),
        (id_words("a"), False),  # which another slot has
        (np.zeros(ID_WORDS, np.uint64), False),
        (np.frombuffer(b"\xff" * 3 + b"\0" * 124 + b"\3", np.uint64), False),
        (np.frombuffer(b"abc" + b"\0" * 124 + b"\2", np.uint64), False),
        (np.frombuffer(b"a" * 127 + b"\x80", np.uint64), False),
    ],
)
def test_an_id_must_be_one_that_a_frame_can_have_had(file, name, taken):
    """However a record with its check came to be under it."""
    process = Process(file.parent)
    process.recover()
    record, slot = record_of(process.slots, "b"), int(find_slot(process.slots, id_words("b")))
    process.slots.ids.reshape(CAPACITY, ID_WORDS)[slot] = name
    vouch_for(process.slots, record, name)
    kill()
    process = Process(file.parent)
    assert len(process.recover()) == (3 if taken else 2)
    assert process.slots.counts.tolist() == ([1, 3] if taken else [2, 2])


# who may use a folder


def test_modes(folder, file):
    process = Process(folder)
    process.recover()
    modes = [path.stat().st_mode & 0o777 for path in (folder, file, folder / LOCK)]
    assert modes == [0o700, 0o600, 0o600]


def test_a_second_daemon_is_refused(folder, file):
    process = Process(folder)
    with pytest.raises(UserError, match="another daemon keeps its state here"):
        Process(folder)
    process.recover()
    with pytest.raises(UserError, match="another daemon keeps its state here"):
        Process(folder)
    kill()
    assert list(kept_in(file)) == NAMES


def test_a_folder_on_a_disk_is_refused(tmp_path):
    kind = subprocess.run(["stat", "-f", "-c", "%T", tmp_path], capture_output=True, text=True, check=True)
    if kind.stdout.strip() in ("tmpfs", "ramfs"):
        pytest.skip(f"{tmp_path} is on {kind.stdout.strip()}; name a disk with --basetemp")
    with pytest.raises(ConfigError, match=r"not on tmpfs; .* as under /run or /dev/shm"):
        Process(tmp_path / "live")
    assert not (tmp_path / "live" / FILE).exists()


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
def test_a_folder_that_others_can_write_is_refused(folder, mode):
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(ConfigError, match="others can write here"):
        Process(folder)
    assert list(folder.iterdir()) == []


def test_a_folder_of_another_user_is_refused(folder):
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to another user")
    folder.mkdir(mode=0o700)
    os.chown(folder, 65534, 65534)
    with pytest.raises(ConfigError, match="others can write here"):
        Process(folder)


def test_a_file_where_the_folder_should_be(folder):
    folder.write_bytes(b"")
    with pytest.raises(UserError, match="cannot be used"):
        Process(folder)


@pytest.mark.parametrize("name", [FILE, f"{FILE}.new", LOCK])
def test_a_link_is_not_followed(folder, tmp_path, name):
    """Whoever could put one there would choose what is written to."""
    folder.mkdir(mode=0o700)
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    (folder / name).symlink_to(target)
    if name == LOCK:
        with pytest.raises(UserError, match="cannot be used"):
            Process(folder)
    else:
        process = Process(folder)
        assert not process.file.taken_over
        process.recover()
        kill()
        assert not (folder / FILE).is_symlink()
        assert list(kept_in(folder / FILE)) == []
    assert target.read_bytes() == b"precious"


# where a new file is made


def test_a_full_tmpfs_is_said_before_anything_is_stepped(small_folder):
    """With the size that is wanted; what could be had of it is given back, and the old file stays."""
    folder, network = small_folder / "live", Engine(MODEL, 1, Faults()).core.net
    process = Process(folder)
    process.recover()
    feed(process.engine)
    kill()
    whole, wanted = kept_in(folder / FILE), PAGE + live_bytes(layout_of(network), 100_000)
    with pytest.raises(UserError, match=rf"no room for {wanted:,} bytes .* make the tmpfs larger"):
        Process(folder, capacity=100_000)
    assert sorted(path.name for path in folder.iterdir()) == [LOCK, FILE]
    assert shutil.disk_usage(folder).free > 900_000
    kill()
    assert kept_in(folder / FILE) == whole


def test_all_memory_is_there_before_it_is_needed(file):
    assert (
        file.stat().st_blocks * 512
        >= file.stat().st_size
        == PAGE + live_bytes(layout_of(Engine(MODEL, 1, Faults()).core.net), CAPACITY)
    )


def test_killed_before_its_new_file_was_published(file):
    """The old one is still in charge, with every stream in it, and what was begun is thrown away."""
    whole = kept_in(file)
    for capacity in (9, 3):
        keeper(file.parent, capacity)
        assert (file.parent / f"{FILE}.new").exists()
        kill()
    process = Process(file.parent)
    assert process.file.taken_over
    assert process.recover() == NAMES
    assert kept(process.slots) == whole


def test_a_file_is_there_once_it_is_published(folder):
    process = Process(folder)
    assert not (folder / FILE).exists()
    process.recover()
    assert sorted(path.name for path in folder.iterdir()) == [LOCK, FILE]
