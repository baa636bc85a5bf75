"""How a cluster is: what `streamrnn cluster status` and `check` find out."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from streamrnn.cluster.course import ShardCourse, find_course
from streamrnn.cluster.engines import Agreed, Engines
from streamrnn.cluster.heads import ShardHead, head_in
from streamrnn.cluster.jetstream import JetStream, Missing
from streamrnn.cluster.members import Members
from streamrnn.cluster.subjects import Subjects
from streamrnn.cluster.tally import WorkerTally
from streamrnn.cluster.terms import Terms, newest_terms
from streamrnn.errors import UserError

_TURNS = 20


async def terms_there(jetstream: JetStream, subjects: Subjects) -> Terms:
    """The terms that hold. Raises UserError where there is no such cluster."""
    try:
        terms = await newest_terms(jetstream, subjects)
    except Missing:
        terms = None
    if terms is None:
        raise UserError(
            f"there is no cluster {subjects.name} on these servers; `streamrnn cluster init` makes one"
        )
    return terms


async def read_heads(
    jetstream: JetStream, subjects: Subjects, terms: Terms
) -> list[tuple[int, ShardHead | None]]:
    """Number of the message and head of each shard; 0 and None of one that never began."""
    found = list[tuple[int, ShardHead | None]]()
    for shard in range(terms.shards):
        message = await jetstream.last(subjects.results, subjects.state(shard))
        if message is None:
            found.append((0, None))
        else:
            found.append((message.seq, head_in(message, shard, subjects.checkpoint(shard))))
    return found


async def who_is_there(jetstream: JetStream, subjects: Subjects, terms: Terms) -> list[dict[str, Any]]:
    """The members that say so within the time that they have for it."""
    members = Members(jetstream, subjects, "", "", 2 * terms.pin_s)
    await members.start()
    await asyncio.sleep(terms.pin_s)
    return members.seen()


async def status(jetstream: JetStream, subjects: Subjects) -> dict[str, Any]:
    """All of it, JSON-ready."""
    terms = await terms_there(jetstream, subjects)
    streams = {}
    for stream in (subjects.inputs, subjects.results):
        state = await jetstream.state(stream)
        where = state.get("cluster") or {}
        behind = [
            each["name"] for each in where.get("replicas") or () if each.get("offline") or not each["current"]
        ]
        streams[stream] = {
            "messages": state["state"]["messages"],
            "bytes": state["state"]["bytes"],
            "leader": where.get("leader", ""),
            "replicas": state["config"]["num_replicas"],
            "behind": behind,
        }
    shards = []
    for shard, (_, head) in enumerate(await read_heads(jetstream, subjects, terms)):
        consumer = await jetstream.api(f"CONSUMER.INFO.{subjects.inputs}.{subjects.consumer(shard)}")
        saved = head.checkpoint if head is not None else None
        shards.append(
            {
                "shard": shard,
                "worker": head.worker if head is not None else "",
                "rows": head.rows if head is not None else 0,
                "position": head.position if head is not None else 0,
                "waiting": consumer["num_pending"] + consumer["num_ack_pending"],
                "checkpoint_rows": (head.rows if head is not None else 0)
                - (saved.rows if saved is not None else 0),
                "checkpoint_age_s": round(time.time() - saved.written_ns / 1e9, 1)
                if saved is not None
                else None,
            }
        )
    return {
        "cluster": subjects.name,
        "revision": terms.revision,
        "model": terms.fingerprint,
        "streams": streams,
        "members": await who_is_there(jetstream, subjects, terms),
        "shards": shards,
    }


def status_text(found: dict[str, Any]) -> str:
    """The same for people."""
    lines = [f"cluster {found['cluster']}, revision {found['revision']}, model {found['model']}"]
    for name, stream in found["streams"].items():
        behind = f", behind or gone: {', '.join(stream['behind'])}" if stream["behind"] else ""
        copies = f"{stream['replicas']} {'copy' if stream['replicas'] == 1 else 'copies'}"
        size = f"{stream['messages']:,} messages, {stream['bytes'] / 1e6:,.1f} MB"
        lines.append(f"stream {name}: {size}, {copies}, led by {stream['leader']}{behind}")
    for member in found["members"]:
        shards = f", {len(member['shards'])} shards" if "shards" in member else ""
        held = ", held back: the log takes nothing" if member.get("held") else ""
        lines.append(f"{member['kind']} {member['name']}{shards}{held}")
    if not any(member["kind"] == "worker" for member in found["members"]):
        lines.append("no worker: rows wait")
    lines += ["", f"{'shard':>5}  {'rows':>14}  {'blocks wait':>11}  {'since checkpoint':>16}  worker"]
    lines += [
        f"{each['shard']:>5}  {each['rows']:>14,}  {each['waiting']:>11,}  {each['checkpoint_rows']:>16,}  "
        f"{each['worker'] or '-'}"
        for each in found["shards"]
    ]
    return "\n".join(lines)


class Finder:
    """Finds shards again, as a worker does, for who only looks."""

    def __init__(self, jetstream: JetStream, subjects: Subjects):
        self._jetstream, self._subjects, self.tally = jetstream, subjects, WorkerTally()
        self._thread = ThreadPoolExecutor(1, "step")
        self._engines = Engines(jetstream, subjects, self._thread)

    async def _do(self, work: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    async def newest(self) -> Agreed:
        """The terms that hold."""
        return await self._engines.renew()

    async def find(self, head: ShardHead) -> ShardCourse:
        """The state that a head tells of. Raises Unavailable, UserError."""
        return await find_course(head, self._jetstream, self._subjects, self._engines, self.tally, self._do)


async def check(jetstream: JetStream, subjects: Subjects) -> list[str]:
    """What is wrong in the log: each shard is found again from its checkpoint, and compared with its head."""
    terms = await terms_there(jetstream, subjects)
    wrong, finder = list[str](), Finder(jetstream, subjects)
    for shard in range(terms.shards):
        try:
            await _check(jetstream, subjects, finder, shard)
        except UserError as error:
            wrong.append(str(error))
    return wrong


async def _check(jetstream: JetStream, subjects: Subjects, finder: Finder, shard: int) -> None:
    """Finds one shard again, as the last head of now has it. Raises UserError."""
    for turn in range(_TURNS):
        message = await jetstream.last(subjects.results, subjects.state(shard))
        if message is None:
            return
        head = head_in(message, shard, subjects.checkpoint(shard))
        try:
            await finder.find(head)
            return
        except UserError:
            # its worker may have written another checkpoint, and removed what came before that
            now = await jetstream.last(subjects.results, subjects.state(shard))
            later = None if now is None else head_in(now, shard, subjects.checkpoint(shard))
            if turn == _TURNS - 1 or later is None or later.checkpoint == head.checkpoint:
                raise
