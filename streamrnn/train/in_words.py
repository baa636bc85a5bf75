"""What was found in the files and will be learned, in words, so that a wrong guess is seen at once."""

from streamrnn.table.progress import counted
from streamrnn.train.asked_of_relations import ROW_BY_ROW
from streamrnn.train.data.dataset import Dataset, Sequence
from streamrnn.train.data.useless import useless_text
from streamrnn.train.descent import TrainSettings
from streamrnn.train.relations import RELATIONS


def found_text(dataset: Dataset, relation: str, settings: TrainSettings) -> str:
    """Lines for a person."""
    of = RELATIONS[relation]
    facts = dataset.facts
    said = [counted(facts.rows, "row"), counted(facts.streams, "stream")]
    if dataset.period_s or facts.gaps:
        said.append(counted(facts.gaps, "gap"))
    period = f", {dataset.period_s:g} s apart" if dataset.period_s else ""
    lines = [*dataset.said, f"found {', '.join(said)}{period}; channels {', '.join(dataset.channels)}"]
    if dataset.target == "value" or relation != ROW_BY_ROW:
        rows = {"ahead": counted(dataset.ahead, "row"), "horizon": counted(dataset.horizon, "row")}
        lines.append(f"outputs {', '.join(dataset.names)}, {of.where.format(**rows)}")
    if facts.missing:
        lines.append(f"missing cells: {facts.missing:,}")
    if facts.dropped:
        why = f" ({useless_text(facts.useless)})" if facts.useless else ""
        lines.append(f"rows of no use: {facts.dropped:,}{why}")
    if facts.left_out:
        by_label = ", ".join(f"{label} {count:,}" for label, count in facts.left_out.most_common())
        lines.append(f"rows left out by intervals: {facts.left_out.total():,} ({by_label})")
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
    if reach < settings.chunk and of.reaches_back:
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
