"""The queries that are in deploy/, and what they name."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

DEPLOY = Path(__file__).parents[1] / "deploy"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana/dashboards/streamrnn.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES: dict[str, dict[str, Any]] = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
KEYWORDS = {"and", "or", "unless", "offset", "bool"}


class Selector(NamedTuple):
    """``name{matchers}[range]``; ``range`` is None for the values of one moment."""

    name: str
    matchers: set[str]
    range: str | None


def dashboard_queries() -> list[tuple[str, str]]:
    """Where each query of the dashboard is (a panel's title, for one), and the query."""
    found = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
    return found + [(mark["name"], mark["expr"]) for mark in DASHBOARD["annotations"]["list"]]


def selectors(query: str) -> list[Selector]:
    """The selectors of a query that have matchers."""
    found = re.findall(r"([\w:]+)\{(.*?)\}(?:\[(.*?)\])?", query)
    return [
        Selector(name, set(re.split(r",\s*", matchers)), window or None) for name, matchers, window in found
    ]


def names(query: str) -> set[str]:
    """The metrics of a query, with or without matchers."""
    rest = re.sub(r'"[^"]*"', "", query)
    rest = re.sub(r"\{[^}]*\}|\[[^]]*\]", "", rest)
    rest = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", rest)
    return set(re.findall(r"(?<![\w:.])[a-zA-Z_:][\w:]*+(?!\s*\()", rest)) - KEYWORDS


def with_values(query: str, rate_interval: str) -> str:
    """A query of the dashboard as Grafana sends it, with all jobs and instances chosen."""
    for name, value in {"__rate_interval": rate_interval, "job": ".+", "instance": ".+"}.items():
        query = re.sub(rf"\${name}\b", value, query)
    return query
