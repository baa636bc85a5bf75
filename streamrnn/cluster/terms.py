"""The terms of a cluster: what all its members must agree on, kept in its log. Each change is a revision."""

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from streamrnn.cluster.jetstream import JetStream, Logged
from streamrnn.cluster.pieces import Pieces, read_pieces, write_pieces
from streamrnn.cluster.shards import MOST_SHARDS
from streamrnn.cluster.subjects import Subjects
from streamrnn.errors import ConfigError, UserError
from streamrnn.model.model import Model
from streamrnn.model.model_file import read_model
from streamrnn.settings.config import Config

FORMAT = "streamrnn-cluster/1"
AGREED = ("predict", "streams", "faults", "adapt")  # sections of the configuration


@dataclass(frozen=True)
class Terms:
    """What is the same for all. ``revision`` is the number of the message that says so, 0 for none yet."""

    shards: int
    replicas: int
    pin_s: float  # a worker silent for so long has lost its shards
    checkpoint_rows: int  # of a shard, from one checkpoint to the next: what a takeover may step again
    keep_s: float  # how long predictions stay in the log
    keep_input_s: float  # how long rows do, once no recovery needs them
    seed: int  # of the hashing of ids within workers
    model: dict[str, Any]  # where its pieces are
    fingerprint: str  # of the model
    sections: dict[str, Any]  # AGREED
    revision: int = 0

    @property
    def config(self) -> Config:
        """A configuration with these sections. Raises ConfigError for what this version does not know."""
        try:
            return Config.model_validate(self.sections)
        except ValueError as error:
            raise ConfigError(f"the cluster's settings are not of this version: {error}") from error

    def told(self) -> bytes:
        said = asdict(self) | {"format": FORMAT}
        del said["revision"]
        return json.dumps(said).encode()


def sections_of(config: Config) -> dict[str, Any]:
    return {name: getattr(config, name).model_dump(mode="json") for name in AGREED}


def terms_in(message: Logged) -> Terms:
    """The terms in a message. Raises UserError for what are none."""
    try:
        said = json.loads(message.data)
        if said.pop("format") != FORMAT:
            raise ValueError("of another version")
        terms = Terms(**said, revision=message.seq)
        if not 1 <= terms.shards <= MOST_SHARDS or terms.pin_s <= 0:
            raise ValueError("of no cluster")
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise UserError(f"{message.subject}: no settings of a cluster ({error})") from error
    return terms


async def newest_terms(jetstream: JetStream, names: Subjects) -> Terms | None:
    """The terms that hold; None where there is no cluster. Raises Unavailable, UserError."""
    message = await jetstream.last(names.results, names.settings)
    return None if message is None else terms_in(message)


async def terms_of(jetstream: JetStream, names: Subjects, revision: int) -> Terms:
    """The terms of a revision. Raises Unavailable, UserError."""
    found = await jetstream.read(names.results, names.settings, revision, 1)
    if not found or found[0].seq != revision:
        raise UserError(f"{names.settings}: revision {revision} is not there")
    return terms_in(found[0])


async def publish_model(jetstream: JetStream, names: Subjects, path: Path, model: Model) -> dict[str, Any]:
    """Appends the file of a model. Returns where it is."""
    pieces = await write_pieces(jetstream, names.model(model.fingerprint), path.read_bytes())
    return pieces.told()


async def fetch_model(jetstream: JetStream, names: Subjects, terms: Terms) -> Model:
    """The model of some terms. Raises Unavailable, UserError."""
    subject = names.model(terms.fingerprint)
    try:
        where = Pieces(subject=subject, **terms.model)
    except TypeError as error:
        raise UserError(f"{names.settings}: says not where its model is") from error
    data = await read_pieces(jetstream, names.results, where)
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:  # the library reads files alone
        file.write(data)
        file.flush()
        model = read_model(file.name)
    if model.fingerprint != terms.fingerprint:
        raise UserError(f"{subject}: holds the model {model.fingerprint}")
    return model
