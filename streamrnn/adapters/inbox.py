"""Messages as adapters take them, out of an inbox that compiled code filled."""

from collections.abc import Iterable

from streamrnn.adapters.adapter import Message
from streamrnn.wire.many import COUNT, Inbox


def messages_in(inbox: Inbox, came_ns: int) -> Iterable[Message]:
    """The messages that were received, one after another."""
    count = int(inbox.tally[COUNT])
    ends = inbox.message_end[:count].tolist()
    part_ends = inbox.part_end[: ends[-1]].tolist()
    content = inbox.content[: part_ends[-1]].tobytes()
    begin = part = 0
    for end in ends:
        parts = []
        for part_end in part_ends[part:end]:
            parts.append(content[begin:part_end])
            begin = part_end
        part = end
        yield Message(None, parts, came_ns)
