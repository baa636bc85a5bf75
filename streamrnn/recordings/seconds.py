"""Seconds that a file says, as exact nanoseconds."""

from decimal import Decimal, InvalidOperation
from fractions import Fraction

from streamrnn.recordings.stored import Damaged

SECOND = 10**9  # ns
_LONGEST = 10**9  # s
_MOST_DIGITS = 40


def nanoseconds(text: str) -> Fraction:
    """Decimal text of seconds. Raises Damaged for what is no number, or none of seconds."""
    try:
        seconds = Decimal(text.strip())
    except InvalidOperation:
        seconds = Decimal("NaN")
    if not seconds.is_finite() or len(text) > _MOST_DIGITS or not -_MOST_DIGITS < seconds.adjusted() < 10:
        raise Damaged(f"{text[:_MOST_DIGITS]!r} is no number of seconds")
    return Fraction(seconds) * SECOND


def period_of(seconds: float) -> Fraction:
    """The ns from sample to sample that a float stands for: 1 / rate where it is the float of one.

    Raises Damaged for what is no time between samples.
    """
    if not 0 < seconds < _LONGEST:
        raise Damaged(f"{seconds!r} s from sample to sample")
    rate = round(1 / seconds) if seconds <= 1 else 0
    return Fraction(SECOND, rate) if rate and 1 / rate == seconds else nanoseconds(repr(seconds))
