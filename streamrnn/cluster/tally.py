"""What members of a cluster count; scraped as it is."""

from dataclasses import dataclass, field


@dataclass
class ShardTally:
    """Of a shard that a worker has."""

    all_rows: int = 0  # that it ever took
    position: int = 0  # of the input, that is committed
    time_ns: int = 0  # CLOCK_REALTIME when the last row there was sealed
    pending: int = 0  # messages of the input that wait
    streams: int = 0  # at the last checkpoint
    checkpoint_rows: int = 0
    checkpoint_ns: int = 0  # CLOCK_REALTIME when it was written; 0 = there is none
    held: bool = False  # the log has no room for its commit


@dataclass
class WorkerTally:
    """Of a worker."""

    rows: int = 0
    commits: int = 0
    refused: int = 0  # commits that another worker's made void
    takeovers: int = 0
    failures: int = 0  # shards that could not be taken up
    repeated: int = 0  # blocks that came twice
    missed: int = 0  # blocks that a gateway numbered and that are not there
    no_blocks: int = 0  # messages of the input that are none
    checkpoint_failures: int = 0
    shards: dict[int, ShardTally] = field(default_factory=dict)  # that it has


@dataclass
class GatewayTally:
    """Of a gateway."""

    received: int = 0  # messages
    blocks: int = 0  # that the log has
    rows: int = 0  # in them
    repeated: int = 0  # blocks that were there already when they were sent again
    waiting: int = 0  # blocks that were sent and not acknowledged
    retries: int = 0
    held: bool = False  # it takes nothing more: the log does not, either
    held_ns: int = 0  # how long it was so
    published: int = 0  # predictions
