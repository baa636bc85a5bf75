"""Which options a relation of input to output takes, and which it must have."""

from collections.abc import Collection

ROW_BY_ROW = "sequence-to-sequence"
_ONE_ROW = "--{option} is for --relation sequence-to-sequence"
_NO_DROPOUT = "--dropout is not for --relation {relation}; try more --decay"
_NO_GAP = "--max-step is not for --relation {relation}: no gap ends a sequence there"
_NO_ROWS = "--relation {relation} writes one row or more; --horizon 0 is none"
NO_SPREAD = (
    "--spread is for networks that forecast every channel one row ahead; leave out --spread, or --relation, "
    "--target and --horizon"
)
_TARGET = "--relation {relation} needs --target, the columns to estimate"

# by relation: options that it does not take, and those that it needs, with what is said then
REFUSED: dict[str, dict[str, str]] = {
    ROW_BY_ROW: {},
    "sequence-to-vector": {
        "spread": NO_SPREAD,
        "highway": _ONE_ROW,
        "explain": _ONE_ROW,
        "max-step": _NO_GAP,
        "horizon": "--horizon is not for {relation}: it says one thing, at the end",
    },
    "vector-to-sequence": {
        "spread": NO_SPREAD,
        "highway": _ONE_ROW,
        "explain": _ONE_ROW,
        "dropout": _NO_DROPOUT,
        "chunk": "--chunk is not for --relation {relation}: it starts from one row",
        "max-step": _NO_GAP,
        "horizon 0": _NO_ROWS,
    },
    "encoder-decoder": {
        "spread": NO_SPREAD,
        "highway": _ONE_ROW,
        "explain": _ONE_ROW,
        "dropout": _NO_DROPOUT,
        "horizon 0": _NO_ROWS,
    },
}
NEEDED: dict[str, dict[str, str]] = {
    "sequence-to-vector": {"target": _TARGET},
    "vector-to-sequence": {"target": _TARGET},
    "encoder-decoder": {"horizon": "--relation {relation} needs --horizon, the number of rows to write"},
}


def problem(relation: str, given: Collection[str]) -> str:
    """What is wrong with the options ``given``, by name ("horizon 0" for that value); "" for nothing."""
    if "spread" in given and {"target", "ahead"} & {*given}:
        return NO_SPREAD
    refused = [(text, option) for option, text in REFUSED[relation].items() if option in given]
    lacking = [(text, option) for option, text in NEEDED.get(relation, {}).items() if option not in given]
    for text, option in refused + lacking:
        return text.format(relation=relation, option=option)
    return ""
