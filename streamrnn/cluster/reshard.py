"""Another number of shards: offline, and all of it or nothing."""

import time
from contextlib import suppress
from dataclasses import replace

import numpy as np

from streamrnn.cluster.heads import Checkpoint, ShardHead
from streamrnn.cluster.jetstream import Headers, JetStream, Missing
from streamrnn.cluster.looking import Finder, read_heads, terms_there, who_is_there
from streamrnn.cluster.pieces import Pieces, write_pieces
from streamrnn.cluster.setup import make_consumers
from streamrnn.cluster.shards import shards_of
from streamrnn.cluster.stepper import DOUBTS, pack_checkpoint, unpack_checkpoint
from streamrnn.cluster.subjects import Subjects
from streamrnn.cluster.terms import Terms
from streamrnn.errors import UserError
from streamrnn.streams.snapshot import Snapshot


async def reshard(jetstream: JetStream, subjects: Subjects, shards: int) -> int:
    """Moves every stream to its shard of ``shards``, its record as it is. Returns how many streams there are.

    Raises UserError while members run, or rows wait.
    """
    terms = await terms_there(jetstream, subjects)
    if there := await who_is_there(jetstream, subjects, terms):
        names = ", ".join(member["name"] for member in there)
        raise UserError(f"still running: {names}; stop all workers and gateways first")
    waiting = 0
    for shard in range(terms.shards):
        consumer = await jetstream.api(f"CONSUMER.INFO.{subjects.inputs}.{subjects.consumer(shard)}")
        waiting += consumer["num_pending"] + consumer["num_ack_pending"]
    if waiting:
        raise UserError(
            f"{waiting:,} blocks are not answered yet; stop the gateways, let workers finish, then these"
        )
    heads = await read_heads(jetstream, subjects, terms)
    snapshot, again, now_ns = await _gather(jetstream, subjects, heads)
    where = shards_of([bytes(each[: each[-1]]) for each in snapshot.ids], shards)
    most, capacity = int(np.bincount(where, minlength=1).max()), terms.config.streams.capacity
    if most > capacity:
        raise UserError(
            f"{shards} are too few: one would have {most:,} streams, and holds {capacity:,}, which is the "
            "cluster's streams.capacity"
        )
    await make_consumers(jetstream, subjects, range(terms.shards, shards), terms)
    state = (await jetstream.state(subjects.inputs))["state"]
    checkpoints = []
    for shard in range(shards):
        mine = where == shard
        part = replace(snapshot, ids=snapshot.ids[mine], records=snapshot.records[mine])
        data = pack_checkpoint(part, again[mine], np.zeros(DOUBTS, np.uint64), shard, now_ns)
        checkpoints.append(await write_pieces(jetstream, subjects.checkpoint(shard), data))
    await _switch(jetstream, subjects, terms, heads, checkpoints, int(state["last_seq"]))
    for shard in range(shards, terms.shards):
        await jetstream.purge(subjects.results, subjects.state(shard))
        await jetstream.purge(subjects.results, subjects.checkpoint(shard))
        with suppress(Missing):
            await jetstream.api(f"CONSUMER.DELETE.{subjects.inputs}.{subjects.consumer(shard)}")
    return len(snapshot.ids)


async def _gather(
    jetstream: JetStream, subjects: Subjects, heads: list[tuple[int, ShardHead | None]]
) -> tuple[Snapshot, np.ndarray, int]:
    """All streams of all shards, under the terms that hold: records, ``again`` of each, the latest time."""
    finder = Finder(jetstream, subjects)
    newest = await finder.newest()
    found = []
    for _, head in heads:
        if head is not None:
            course = await finder.find(head)
            if head.revision != newest.terms.revision:
                course.adopt(newest)
            found.append(unpack_checkpoint(course.checkpoint(), head.shard))
    if not found:
        raise UserError("no shard has begun yet; make the cluster anew with another number of shards")
    ids, records = (np.concatenate([getattr(each[0], part) for each in found]) for part in ("ids", "records"))
    snapshot = replace(found[0][0], ids=ids, records=records)
    return snapshot, np.concatenate([each[1] for each in found]), max(each[3] for each in found)


async def _switch(
    jetstream: JetStream,
    subjects: Subjects,
    terms: Terms,
    heads: list[tuple[int, ShardHead | None]],
    checkpoints: list[Pieces],
    position: int,
) -> None:
    """Appends terms of as many shards as ``checkpoints``, and the heads of these, all or none."""
    last = int((await jetstream.state(subjects.results))["state"]["last_seq"])
    revision, now = last + 1, time.time_ns()  # the number that the terms get, or nothing is done
    shards = len(checkpoints)
    said = replace(terms, shards=shards).told()
    messages: list[tuple[str, bytes, Headers]] = [
        (subjects.settings, said, {"Nats-Expected-Last-Sequence": str(last)})
    ]
    for shard, pieces in enumerate(checkpoints):
        checkpoint = Checkpoint(pieces, position, revision, 0, {}, now)  # as a shard that has taken nothing
        head = ShardHead(shard, position=position, time_ns=now, revision=revision, checkpoint=checkpoint)
        messages.append((subjects.state(shard), head.told(), {}))
    expected = heads[shards - 1][0] if shards <= len(heads) else 0
    await jetstream.commit(messages, expected)
