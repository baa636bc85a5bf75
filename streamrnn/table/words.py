"""Words in cells: those that say that a value is missing, and pairs that say one of two states."""

MISSING = ("", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NAN", "NaT", "null", "NULL", "None", "<NA>")
# pairs that mean 0 and 1, in any case
STATES = (
    ("false", "true"),
    ("off", "on"),
    ("no", "yes"),
    ("closed", "open"),
    ("stopped", "running"),
    ("inactive", "active"),
    ("disabled", "enabled"),
    ("low", "high"),
    ("f", "t"),
    ("n", "y"),
)
VALUE_OF_STATE = {word: float(value) for pair in STATES for value, word in enumerate(pair)}


def is_missing(cell: str) -> bool:
    """Whether a cell, without space around it, says that there is no value."""
    return cell in MISSING


def is_word(cell: str) -> bool:
    """Whether a cell, without space around it, is one of two states."""
    return cell.casefold() in VALUE_OF_STATE
