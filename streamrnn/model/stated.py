"""What a model file says beside its network, checked: errors, score, what values mean, how it was made."""

import itertools
import json
import math
import reprlib
import sys

SAID_LIMIT = 64  # codes of missing values, words that stand for numbers
SAID_LENGTH = 100  # characters of one
TRAINING_LIMIT, TRAINING_DEPTH = 1 << 16, 32  # bytes of JSON; lists and objects in each other
ROWS_LIMIT = 1 << 63
HIGHEST_SCORE = 30
LARGEST_OFFSET = 1e38  # a float32 can be
LARGEST = sys.float_info.max
LONGEST_RUN = 1 << 24  # rows, as a float32 counts them

_shorten = reprlib.Repr()
_shorten.maxstring = _shorten.maxother = 200


def channel_problems(key: str, channels: object) -> list[str]:
    """What is wrong with a list of ``{"name", "unit", "offset"}``; all but the name may be left out."""
    if not isinstance(channels, list) or not channels:
        return [f'"{key}": expected a list of one or more {{"name", "unit"}}, found {quoted(channels)}']
    problems, names = [], set()
    for k, channel in enumerate(channels):
        if not isinstance(channel, dict) or not {"name"} <= set(channel) <= {"name", "unit", "offset"}:
            problems.append(f'"{key}"[{k}]: expected {{"name", "unit"}}, found {quoted(channel)}')
            continue
        name, unit = channel["name"], channel.get("unit", "")
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            problems.append(f'"{key}"[{k}]: expected a printable name, found {quoted(name)}')
        elif name in names:
            problems.append(f'"{key}"[{k}]: {quoted(name)} is already a name; give it another')
        else:
            names.add(name)
        if not isinstance(unit, str) or not unit.isprintable():
            problems.append(f'"{key}"[{k}]: expected a printable unit, found {quoted(unit)}')
        offset = channel.get("offset", 0.0)
        if type(offset) not in (int, float) or not abs(offset) <= LARGEST_OFFSET:
            problems.append(f'"{key}"[{k}]: expected a finite number as offset, found {quoted(offset)}')
    return problems


def error_problems(errors: object, outputs: int) -> list[str]:
    """What is wrong with ``{"rows", "mean", "std"}``, or null."""
    if errors is None:
        return []
    if not isinstance(errors, dict) or set(errors) != {"rows", "mean", "std"}:
        return [f'"errors": expected {{"rows", "mean", "std"}} or null, found {quoted(errors)}']
    problems, rows = [], errors["rows"]
    if type(rows) is not int or not 1 <= rows < ROWS_LIMIT:
        problems.append(f'"errors": expected "rows" of 1 or more, found {quoted(rows)}')
    for key, least in (("mean", -math.inf), ("std", 0.0)):
        numbers = errors[key]
        if not isinstance(numbers, list) or len(numbers) != outputs or not all(_number(n) for n in numbers):
            expected = f'"{key}" of {outputs} numbers, one for each output'
            problems.append(f'"errors": expected {expected}, found {quoted(numbers)}')
        elif min(numbers) < least:
            problems.append(f'"errors": expected "{key}" of 0 or more, found {quoted(numbers)}')
    return problems


def score_problems(score: object, outputs: int) -> list[str]:
    """What is wrong with ``{"rows", "instant", "smoothed", "threshold"}`` and what else is told, or null."""
    if score is None:
        return []
    told = {"runs", "switches", "resized", "switched"}
    if not isinstance(score, dict) or set(score) - told != {"rows", "instant", "smoothed", "threshold"}:
        expected = '{"rows", "instant", "smoothed", "threshold"}, perhaps with more of how rows are judged,'
        return [f'"score": expected {expected} or null, found {quoted(score)}']
    problems, rows = [], score["rows"]
    if type(rows) is not int or not 0 <= rows < ROWS_LIMIT:
        problems.append(f'"score": expected "rows" of 0 or more, found {quoted(rows)}')
    for key in sorted({"instant", "smoothed", "resized", "switched"} & set(score)):
        levels = score[key]
        if not isinstance(levels, list) or len(levels) != 3 or not all(_number(n) for n in levels):
            problems.append(f'"score": expected "{key}" of 3 numbers, found {quoted(levels)}')
        elif not -8 <= levels[0] <= 21 or not all(0.1 <= gap <= 4 for gap in levels[1:]):
            expected = f'"{key}" of a level from -8 to 21 and two gaps from 0.1 to 4'
            problems.append(f'"score": expected {expected}, found {quoted(levels)}')
    threshold = score["threshold"]
    if not _number(threshold) or not 0 < threshold <= HIGHEST_SCORE:
        expected = f'a "threshold" above 0, at most {HIGHEST_SCORE}'
        problems.append(f'"score": expected {expected}, found {quoted(threshold)}')
    runs = score.get("runs", [0] * outputs)
    good = isinstance(runs, list) and len(runs) == outputs
    if not good or not all(type(run) is int and 0 <= run <= LONGEST_RUN for run in runs):
        expected = f'"runs" of {outputs} whole numbers, one for each output, 0 to {LONGEST_RUN:,}'
        problems.append(f'"score": expected {expected}, found {quoted(runs)}')
    switches = score.get("switches", [False] * outputs)
    good = isinstance(switches, list) and len(switches) == outputs
    if not good or not all(type(switch) is bool for switch in switches):
        expected = f'"switches" of {outputs} true or false, one for each output'
        problems.append(f'"score": expected {expected}, found {quoted(switches)}')
    return problems


def band_problems(bands: object, outputs: int) -> list[str]:
    """What is wrong with ``{"rows", "levels", "quantiles", "spread"}``, or null."""
    if bands is None:
        return []
    if not isinstance(bands, dict) or set(bands) != {"rows", "levels", "quantiles", "spread"}:
        expected = '{"rows", "levels", "quantiles", "spread"}'
        return [f'"bands": expected {expected} or null, found {quoted(bands)}']
    problems, rows, levels = [], bands["rows"], bands["levels"]
    if type(rows) is not int or not 1 <= rows < ROWS_LIMIT:
        problems.append(f'"bands": expected "rows" of 1 or more, found {quoted(rows)}')
    if not _rise(levels) or not 0 < levels[0] <= levels[-1] < 1:
        problems.append(f'"bands": expected "levels" that rise between 0 and 1, found {quoted(levels)}')
        levels = []
    for key, right in (
        ("quantiles", lambda one: _rise(one, evenly=True) and one[0] > 0 and len(one) == len(levels)),
        ("spread", lambda one: _number(one) and one > 0),
    ):
        numbers = bands[key]
        if not isinstance(numbers, list) or len(numbers) != outputs or not all(map(right, numbers)):
            expected = (
                "rising numbers above 0, one for each level," if key == "quantiles" else "a number above 0"
            )
            problems.append(
                f'"bands": expected "{key}" with {expected} for each output, found {quoted(numbers)}'
            )
    return problems


def _rise(numbers: object, evenly: bool = False) -> bool:
    """Whether these are numbers, one at least, each above the one before, or, ``evenly``, not below it."""
    if not isinstance(numbers, list) or not numbers or not all(map(_number, numbers)):
        return False
    return all(one < other or (evenly and one == other) for one, other in itertools.pairwise(numbers))


def _number(value: object) -> bool:
    """Whether a value is a finite number that a float can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def said_problems(missing: object, words: object) -> list[str]:
    """What is wrong with a list of texts, and with texts that stand for numbers."""
    problems = []
    if not isinstance(missing, list) or len(missing) > SAID_LIMIT or not all(map(_is_word, missing)):
        expected = f"a list of up to {SAID_LIMIT} texts, numbers as text, too"
        problems.append(f'"missing": expected {expected}, found {quoted(missing)}')
    if (
        not isinstance(words, dict)
        or len(words) > SAID_LIMIT
        or not all(_is_word(word) and _number(value) for word, value in words.items())
    ):
        problems.append(f'"words": expected up to {SAID_LIMIT} {{text: number}}, found {quoted(words)}')
    return problems


def _is_word(word: object) -> bool:
    return isinstance(word, str) and 0 < len(word) <= SAID_LENGTH and word.isprintable()


def training_problems(training: object) -> list[str]:
    """What is wrong with what a trainer left: any JSON object, or null."""
    if training is None:
        return []
    if not isinstance(training, dict):
        return [f'"training": expected a JSON object or null, found {quoted(training)}']
    if _deeper(training, TRAINING_DEPTH):
        return [f'"training": more than {TRAINING_DEPTH} lists and objects in each other; make it flatter']
    try:
        size = len(json.dumps(training, allow_nan=False))
    except (TypeError, ValueError) as error:
        return [f'"training": cannot be written as JSON ({error})']
    if size > TRAINING_LIMIT:
        return [f'"training": {size:,} bytes as JSON, at most {TRAINING_LIMIT:,} are kept; say less']
    return []


def _deeper(value: object, levels: int) -> bool:
    """Whether more than ``levels`` lists and objects stand in each other."""
    if not isinstance(value, dict | list | tuple):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper(one, levels - 1) for one in inner)


def quoted(value: object) -> str:
    """A value out of a file for a message: quoted, escaped and, if long or deep, cut short."""
    return _shorten.repr(value)
