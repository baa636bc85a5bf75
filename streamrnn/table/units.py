"""The words of units and types that stand in a row of their own below the names of columns."""

import re

_UNITS = frozenset(
    (
        "s", "sec", "secs", "second", "seconds", "ms", "msec", "us", "µs", "usec", "ns", "min", "mins",
        "minutes", "h", "hr", "hour", "hours", "d", "day", "days", "ts", "rn", "utc", "gmt", "datetime",
        "date", "time", "timestamp", "yyyy-mm-dd", "hh:mm:ss", "v", "mv", "kv", "uv", "volt", "volts", "a",
        "ma", "ka", "ua", "amp", "amps", "ampere", "w", "mw", "kw", "gw", "va", "kva", "var", "kvar", "wh",
        "kwh", "mwh", "ah", "mah", "hz", "khz", "mhz", "ghz", "rpm", "1/min", "min-1", "ohm", "ohms",
        "kohm", "mohm", "f", "uf", "mh", "c", "coulomb", "db", "dbm", "dba", "k", "degc", "degf", "deg_c",
        "deg_f", "degree_c", "degree_f", "degreec", "celsius", "fahrenheit", "kelvin", "deg", "degree",
        "degrees", "°c", "°f", "°", "rad", "pa", "hpa", "kpa", "mpa", "bar", "mbar", "psi", "atm", "mmhg",
        "inhg", "torr", "m", "mm", "cm", "km", "um", "nm", "in", "ft", "mi", "m/s", "km/h", "kmh", "kph",
        "mph", "kn", "kt", "knots", "m/s2", "m/s^2", "m/s²", "g", "mg", "gravity", "l", "ml", "l/min",
        "lpm", "l/h", "l/s", "m3", "m^3", "m³", "m3/h", "m³/h", "m3/s", "gpm", "kg", "t", "n", "n/m",
        "nm/m", "j", "kj", "mj", "cal", "%", "%rh", "rh", "percent", "pct", "ppm", "ppb", "ppt", "ug/m3",
        "µg/m3", "µg/m³", "mg/l", "mg/m3", "ph", "ntu", "fnu", "us/cm", "ms/cm", "psu", "lux", "lx", "w/m2",
        "w/m^2", "w/m²", "kw/m2", "umol/m2/s", "mm/h", "in/hr", "mt", "ut", "gauss", "tesla", "bool",
        "boolean", "count", "counts", "none", "unitless", "-", "--", "#",
    )
)  # fmt: skip
_KINDS = frozenset(
    (
        "string", "str", "text", "char", "varchar", "object", "double", "float", "float32", "float64",
        "real", "single", "decimal", "numeric", "number", "int", "int8", "int16", "int32", "int64",
        "integer", "long", "short", "bigint", "smallint", "tinyint", "bool", "boolean", "byte", "uint",
        "uint8", "uint16", "uint32", "uint64", "unsignedlong", "date", "time", "datetime", "timestamp",
        "datetime:rfc3339", "datetime64", "avg", "smp", "max", "min", "std", "tot", "med", "sum", "cov",
        "inst",
    )
)  # fmt: skip
_PARTS = re.compile(r"[a-zµ°%Ωω]+[23²³]?([-·*.^/][a-zµ°%]*\d?)+")


def is_unit(text: str) -> bool:
    """Whether a cell is the name of a unit, in brackets or not."""
    text = text.strip().strip("[]()").strip().casefold()
    return text in _UNITS or "°" in text or (len(text) < 16 and _PARTS.fullmatch(text) is not None)


def is_kind(text: str) -> bool:
    """Whether a cell is the name of a type, or of how a logger makes its values (Avg, Smp)."""
    return text.strip().casefold() in _KINDS
