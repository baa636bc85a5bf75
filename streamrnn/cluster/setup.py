"""A cluster made, and its terms changed."""

import secrets
from dataclasses import replace
from typing import Any

from streamrnn.cluster.engines import make_engine
from streamrnn.cluster.jetstream import JetStream, Missing, insist
from streamrnn.cluster.pins import GROUP
from streamrnn.cluster.stepper import bytes_of_one
from streamrnn.cluster.subjects import Subjects
from streamrnn.cluster.terms import Terms, fetch_model, newest_terms, publish_model, sections_of
from streamrnn.daemon.reload import refuse_what_is_fixed
from streamrnn.errors import UserError
from streamrnn.model.model_file import read_model
from streamrnn.settings.config import Config

_PATIENCE_S = 30.0
_DUPLICATES_NS = round(120e9)


async def init(jetstream: JetStream, config: Config, terms: Terms, most_bytes: int) -> Terms:
    """Makes streams, consumers and the first revision, of the model and the sections of ``config``.

    Of ``terms`` model and sections are filled in here. ``most_bytes`` of each of the two streams, -1 = any.
    Raises UserError where there is one of that name.
    """
    names, model = Subjects(config.cluster.name), read_model(config.model)
    engine = make_engine(model, config)  # or it would fail in every worker
    size = bytes_of_one(engine.core)
    if size > jetstream.most_bytes:
        raise UserError(
            f"a prediction may have {size:,} bytes, and the servers take {jetstream.most_bytes:,} in a "
            "message; lower predict.horizon, or raise their max_payload"
        )
    common = {
        "retention": "limits",
        "discard": "new",  # what is full refuses, and never forgets
        "storage": "file",
        "num_replicas": terms.replicas,
        "max_bytes": most_bytes,
        "duplicate_window": _DUPLICATES_NS,
        "allow_direct": True,
    }
    inputs = {"name": names.inputs, "subjects": [names.input("*")], **common}
    results = {"name": names.results, "subjects": names.result_subjects, **common}
    results |= {"allow_atomic": True, "allow_msg_ttl": True}
    if await newest_terms(jetstream, names) is not None:
        raise UserError(
            f"there is a cluster {names.name} already; --update gives it another model or other rules"
        )
    for stream in (inputs, results):
        await insist(lambda stream=stream: _make_stream(jetstream, stream), _PATIENCE_S)  # type: ignore[misc]
    await make_consumers(jetstream, names, range(terms.shards), terms)
    where = await publish_model(jetstream, names, config.model, model)
    terms = replace(
        terms,
        seed=secrets.randbits(63),
        model=where,
        fingerprint=model.fingerprint,
        sections=sections_of(config),
    )
    return await _publish(jetstream, names, terms)


async def _make_stream(jetstream: JetStream, stream: dict[str, Any]) -> None:
    """Makes a stream, or takes the one that an ``init`` made which was interrupted. Raises UserError."""
    name = stream["name"]
    try:
        there = (await jetstream.state(name))["config"]
    except Missing:
        there, what = stream, "CREATE"
    else:
        what = "UPDATE"
    if sorted(there.get("subjects") or ()) != sorted(stream["subjects"]):
        raise UserError(
            f"there is a stream of NATS {name} already, and it is not a cluster's; take another cluster.name"
        )
    made = (await jetstream.api(f"STREAM.{what}.{name}", **stream))["config"]
    if missing := [key for key in stream if key.startswith("allow_") and not made.get(key)]:
        raise UserError(f"the servers know no {', '.join(missing)}; NATS 2.12 or newer is needed")


async def make_consumers(jetstream: JetStream, names: Subjects, shards: range, terms: Terms) -> None:
    """Those by which servers say who has which shard."""
    for shard in shards:
        name = names.consumer(shard)
        how: dict[str, Any] = {
            "name": name,
            "durable_name": name,
            "filter_subject": names.input(shard),
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "ack_wait": round(terms.pin_s * 1e9),
            "headers_only": True,
            "priority_groups": [GROUP],
            "priority_policy": "pinned_client",
            "priority_timeout": round(terms.pin_s * 1e9),
        }
        what = f"CONSUMER.CREATE.{names.inputs}.{name}.{names.input(shard)}"
        ask = {"stream_name": names.inputs, "config": how}
        await insist(lambda what=what, ask=ask: jetstream.api(what, **ask), _PATIENCE_S)  # type: ignore[misc]


async def update(jetstream: JetStream, config: Config) -> Terms:
    """Publishes another revision: model and rules of ``config``, as a daemon takes them at a reload.

    Raises UserError for what its streams cannot go on with.
    """
    names, model = Subjects(config.cluster.name), read_model(config.model)
    terms = await newest_terms(jetstream, names)
    if terms is None:
        raise UserError(f"there is no cluster {names.name} on these servers; leave out --update")
    sections = sections_of(config)
    refuse_what_is_fixed(terms.config, Config.model_validate(sections))
    running = make_engine(await fetch_model(jetstream, names, terms), terms.config)
    running.replacement(model, config.faults)
    where = await publish_model(jetstream, names, config.model, model)
    changed = replace(terms, model=where, fingerprint=model.fingerprint, sections=sections)
    return await _publish(jetstream, names, changed)


async def _publish(jetstream: JetStream, names: Subjects, terms: Terms) -> Terms:
    said = terms.told()
    number = await jetstream.commit([(names.settings, said, {})], terms.revision)
    return replace(terms, revision=number)
