"""What a model knows of the files that it is used on."""

from dataclasses import replace

from streamrnn.errors import UserError
from streamrnn.model.model import Model
from streamrnn.table.reader import RowReader
from streamrnn.table.reading import Reading


def check_units(reader: RowReader, model: Model) -> None:
    """Raises UserError where a file says another unit of a channel than the model's file does."""
    theirs = {channel.name: channel.unit for channel in model.channels}
    ours = dict(zip(theirs, reader.channels, strict=True))
    for name, unit in theirs.items():
        here = reader.units.get(ours[name], "")
        if unit and here and here != unit:
            raise UserError(
                f'{reader.where}: "{name}" is in {here}, and the model learned it in {unit}; bring it to '
                f"that unit, or, if the file is wrong, say so: --unit-of '{ours[name]}={unit}'"
            )


def with_model(reading: Reading, model: Model) -> Reading:
    """How files of a model are read: with what it knows of its channels and of words, and what is told."""
    return replace(
        reading,
        missing=tuple(dict.fromkeys((*model.missing, *reading.missing))),
        words=dict(model.words or {}) | dict(reading.words),
        offsets={channel.name: channel.offset for channel in model.channels},
    )
