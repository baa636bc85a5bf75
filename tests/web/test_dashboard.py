"""The dashboard follows the rules of Grafana's dashboard-linter, whose names the tests have, and a few more.

Where the linter looks at some kinds of panels, these look at all. Whether queries parse and have data is in
test_prometheus.py.
"""

import itertools
import re

import pytest
from promql import DASHBOARD, DEPLOY, PANELS, VARIABLES, dashboard_queries, names, selectors

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
UNITS = {"none", "short", "percentunit", "s", "dtdurations", "cps", "bytes"}  # of Grafana's, what fits here
QUERIES = [query for _, query in dashboard_queries()]

each_panel = pytest.mark.parametrize("panel", PANELS, ids=[panel["title"] for panel in PANELS])
each_query = pytest.mark.parametrize("query", QUERIES)


def test_uneditable_dashboard():
    assert DASHBOARD["editable"] is False
    provider = (DEPLOY / "grafana/provisioning/dashboards/streamrnn.yaml").read_text()
    assert "allowUiUpdates: false" in provider


def test_template_datasource():
    variable = VARIABLES["datasource"]
    assert (variable["type"], variable["query"], variable["label"]) == (
        "datasource",
        "prometheus",
        "Data source",
    )
    assert [each["type"] for each in VARIABLES.values()].count("datasource") == 1


@pytest.mark.parametrize("name", ["job", "instance"])
def test_template_job_and_instance(name):
    variable = VARIABLES[name]
    assert (variable["type"], variable["label"], variable["datasource"]) == ("query", name.title(), SOURCE)
    assert (variable["multi"], variable["includeAll"], variable["allValue"]) == (True, True, ".+")
    assert variable["current"]["value"] == ["$__all"]


@pytest.mark.parametrize("name", ["job", "instance"])
def test_template_label_promql(name):
    metric, label = re.fullmatch(r"label_values\((.*), (\w+)\)", VARIABLES[name]["query"]).groups()
    assert names(metric) == {"streamrnn_build_info"}
    assert label == name


@pytest.mark.parametrize("name", ["job", "instance"])
def test_template_on_time_change_reload(name):
    assert VARIABLES[name]["refresh"] == 2


@pytest.mark.parametrize("name", VARIABLES)
def test_template_unused(name):
    text = str(PANELS)
    assert f"${name}" in text or f"${{{name}}}" in text


@each_panel
def test_panel_datasource(panel):
    assert panel["datasource"] == SOURCE
    assert all(target.get("datasource", SOURCE) == SOURCE for target in panel["targets"])


def test_annotation_datasource():
    assert [mark["datasource"] for mark in DASHBOARD["annotations"]["list"]] == [SOURCE]


@each_panel
def test_panel_title_description(panel):
    assert panel["title"].strip()
    assert panel["description"].strip().endswith(".")


@each_panel
def test_panel_units(panel):
    config = panel["fieldConfig"]
    changed = [each for override in config["overrides"] for each in override["properties"]]
    units = [config["defaults"]["unit"], *(each["value"] for each in changed if each["id"] == "unit")]
    assert set(units) <= UNITS


@each_panel
def test_panel_no_targets(panel):
    assert panel["targets"]
    assert all(target["expr"] for target in panel["targets"])


@each_query
def test_panel_job_instance(query):
    found = selectors(query)
    assert {each.name for each in found} == names(query)
    assert all({'job=~"$job"', 'instance=~"$instance"'} <= each.matchers for each in found)


@each_query
def test_target_rate_interval(query):
    assert {each.range for each in selectors(query)} <= {None, "$__rate_interval"}
    assert query.count("[") == query.count("[$__rate_interval]")


@each_query
def test_target_counter_agg(query):
    counters = r"\w+_(?:total|bucket|sum|count)\{"
    within = re.findall(rf"\b(?:rate|increase)\({counters}", query)
    assert len(within) == len(re.findall(rf"\b{counters}", query))


@each_panel
def test_target_histogram(panel):
    for target in panel["targets"]:
        quantiles = len(re.findall(r"histogram_quantile\([\d.]+, .*?_bucket\{", target["expr"]))
        if target.get("format") == "heatmap":
            assert (panel["type"], target["legendFormat"]) == ("heatmap", "{{le}}")
        else:
            assert quantiles == target["expr"].count("_bucket{")


@each_panel
def test_series_can_be_told_apart(panel):
    """A legend names what the series of a query differ in, and the queries of a panel."""
    targets = panel["targets"]
    if panel["type"] == "table":
        return
    assert len({target["legendFormat"] for target in targets}) == len(targets)
    for target in targets:
        by = re.search(r"sum by \(([\w, ]+)\)", target["expr"])
        labels = set(by[1].split(", ")) - {"job"} if by else {"instance"}
        if "histogram_quantile" in target["expr"]:
            labels.discard("le")
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) == labels


@each_panel
def test_refs_are_unique(panel):
    refs = [target["refId"] for target in panel["targets"]]
    assert len(set(refs)) == len(refs)


def test_panels_have_places_of_their_own():
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= 24 for place in places)
    for one, other in itertools.combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
