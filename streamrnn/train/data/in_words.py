"""What was found in the files and will be learned, in words, so that a wrong guess is seen at once."""

from streamrnn.table.progress import counted
from streamrnn.train.data.dataset import Dataset, Sequence
from streamrnn.train.data.useless import useless_text
from streamrnn.train.descent import Settings


def found_text(dataset: Dataset, relation: str, settings: Settings) -> str:
    """Lines for a person."""
    facts = dataset.facts
    said = [counted(facts.rows, "row"), counted(facts.streams, "stream")]
    if dataset.period_s or facts.gaps:
        said.append(counted(facts.gaps, "gap"))
    period = f", {dataset.period_s:g} s apart" if dataset.period_s else ""
    lines = [*dataset.said, f"found {', '.join(said)}{period}; channels {', '.join(dataset.channels)}"]
    where = {
        "sequence-to-sequence": f"{counted(dataset.ahead, 'row')} ahead",
        "sequence-to-vector": "at the end of each stream",
        "vector-to-sequence": f"{counted(dataset.horizon, 'row')} from the first row of each stream",
        "encoder-decoder": f"the {counted(dataset.horizon, 'row')} that follow",
    }
    if dataset.target == "value" or relation != "sequence-to-sequence":
        lines.append(f"outputs {', '.join(dataset.names)}, {where[relation]}")
    if facts.missing:
        lines.append(f"missing cells: {facts.missing:,}")
    if facts.dropped:
        why = f" ({useless_text(facts.useless)})" if facts.useless else ""
        lines.append(f"rows of no use: {facts.dropped:,}{why}")
    if facts.skipped:
        lines.append(f"bad rows left out: {facts.skipped:,}")
    lines += [f"warning: {warning}" for warning in dataset.warnings]
    if (
        relation == "encoder-decoder"
        and dataset.target == "value"
        and {*dataset.names} <= {*dataset.channels}
    ):
        lines.append(
            "warning: the decoder is not shown the last row, as the targets are not the first channels; name "
            "them first with --channels"
        )
    reach = count_of(dataset.train, "row") // settings.lanes
    if reach < settings.chunk and relation in ("sequence-to-sequence", "encoder-decoder"):
        lines.append(
            f"warning: the gradient reaches back {counted(reach, 'row')}, not {settings.chunk}: there are no "
            f"more in each of the {settings.lanes} pieces side by side (--batch, at least 16)"
        )
    return "".join(f"{line}\n" for line in lines)


def count_of(sequences: list[Sequence], unit: str) -> int:
    """How many sequences, or "row"s of them that do not only bring a state up."""
    if unit == "sequence":
        return len(sequences)
    return sum(len(sequence.values) - sequence.warm for sequence in sequences)
