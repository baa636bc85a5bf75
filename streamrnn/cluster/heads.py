"""The head of a shard: how far its worker has come. The last one there is, is the shard.

Each commit of a worker ends with one, and none is appended but behind the one that its writer knew.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from streamrnn.cluster.jetstream import Logged
from streamrnn.cluster.pieces import Pieces
from streamrnn.errors import UserError

FORMAT = "streamrnn-head/1"
MOST_GATEWAYS = 64  # whose blocks are counted; each start of one is another
LET_GO, CHANGED = "let go", "terms"  # what is done between two blocks


@dataclass(frozen=True)
class Checkpoint:
    """Where a checkpoint is, and of which moment: all up to ``position`` is in it."""

    pieces: Pieces
    position: int
    revision: int  # of the terms that it goes on with
    rows: int  # that the shard had taken
    gateways: dict[str, list[int]]  # as in the head of that moment
    written_ns: int  # CLOCK_REALTIME


@dataclass(frozen=True)
class ShardHead:
    """Up to which message of its input a shard is done, and how to come to the same state again."""

    shard: int
    worker: str = ""
    position: int = 0  # number of the last message of the input that is answered
    time_ns: int = 0  # when that was sealed
    rows: int = 0  # taken so far
    revision: int = 0  # of the terms that the shard goes on with
    gateways: dict[str, list[int]] = field(default_factory=dict)  # of each the last block's number, its place
    checkpoint: Checkpoint | None = None
    # What was done since the checkpoint, each behind a position: LET_GO, or CHANGED and the revision. A shard
    # begins with the latter.
    since: tuple[tuple[int, str, int], ...] = ()

    def told(self) -> bytes:
        said = asdict(self) | {"format": FORMAT}
        if self.checkpoint is not None:
            said["checkpoint"] = asdict(self.checkpoint) | {"pieces": self.checkpoint.pieces.told()}
        return json.dumps(said, separators=(",", ":")).encode()

    def behind(self, position: int, rows: int, time_ns: int, gateway: str, number: int) -> "ShardHead":
        """The head behind a block of a gateway."""
        gateways = self.gateways | {gateway: [number, position]}
        if len(gateways) > MOST_GATEWAYS:
            del gateways[min(gateways, key=lambda name: gateways[name][1])]
        return replace(self, position=position, rows=rows, time_ns=time_ns, gateways=gateways)

    def with_checkpoint(self, checkpoint: Checkpoint, events: int) -> "ShardHead":
        """The head that tells of a checkpoint; the first ``events`` of what was done are in it."""
        return replace(self, checkpoint=checkpoint, since=self.since[events:])


def head_in(message: Logged | None, shard: int, subject: str) -> ShardHead:
    """The head in a message, that of a new shard for none; ``subject``: of checkpoints. Raises UserError."""
    if message is None:
        return ShardHead(shard)
    try:
        said: dict[str, Any] = json.loads(message.data)
        if said.pop("format") != FORMAT or said["shard"] != shard:
            raise ValueError("of another version or shard")
        if (told := said["checkpoint"]) is not None:
            pieces = Pieces(subject=subject, **told.pop("pieces"))
            said["checkpoint"] = Checkpoint(pieces, **told)
        said["since"] = tuple((int(at), str(what), int(more)) for at, what, more in said["since"])
        return ShardHead(**said)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise UserError(f"{message.subject}: holds no head of shard {shard} ({error})") from error
