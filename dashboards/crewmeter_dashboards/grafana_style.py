"""Looks of a panel in Grafana: chart type, colours, units, links."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from crewmeter_dashboards.grafana_sdk import (
    bargauge,
    build,
    build_common,
    common,
    dashboard,
    heatmap,
    stat,
    table,
    timeseries,
)
from crewmeter_dashboards.panels.grafana_text import heading
from crewmeter_dashboards.panels.palette import GOOD, MEANING
from crewmeter_dashboards.panels.panel import Kind, Unit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crewmeter_dashboards.panels.panel import Column, Panel, Step

__all__ = ["styled"]

_TRACE_PANE = (
    '{"trace":{"datasource":"${tempo}",'
    '"queries":[{"refId":"A","queryType":"traceql","query":"TRACE"}],'
    '"range":{"from":"${__from}","to":"${__to}"}}}'
)
_RUNS = "${page}/?view=runs&from=${__from:date:iso}&to=${__to:date:iso}"
_RUN_FILTERS = {
    "crew": "crew",
    "name": "crew",
    "team": "team",
    "service": "service",
    "environment": "environment",
    "agent": "agent",
    "model": "model",
}
"""Column or series → the filter of the page's run list that it sets."""
_TRACE_ATTRIBUTES = {
    "crew": "span.crewmeter.crew.name",
    "name": "span.crewmeter.crew.name",
    "agent": "span.gen_ai.agent.name",
    "model": "span.gen_ai.request.model",
    "tool": "span.crewmeter.tool.name",
    "team": "span.crewmeter.team",
    "session": "span.crewmeter.session",
    "service": "resource.service.name",
}
"""Column or series → the attribute that Tempo searches for it."""
_CURRENT_RANGE = "${__url_time_range}&${ledger:queryparam}"


def styled(panel: Panel) -> Any:
    """Return a Grafana panel builder with everything but its position and queries."""
    drawn = {
        Kind.STAT: _stat,
        Kind.LINES: _lines,
        Kind.STACK: _stack,
        Kind.BARS: _bars,
        Kind.TABLE: _table,
        Kind.HEATMAP: _heatmap,
    }[panel.kind](panel)
    drawn = drawn.unit(Unit.COUNT if panel.kind is Kind.TABLE else panel.unit)
    if panel.decimals is not None:
        drawn = drawn.decimals(panel.decimals)
    if panel.maximum is not None:
        drawn = drawn.max(panel.maximum).min(0)
    return drawn


def _thresholds(steps: Sequence[Step]) -> Any:
    """Return Grafana's thresholds. The first step has no value (minus infinity)."""
    listed = [
        dashboard.Threshold(value=None if index == 0 else step.value, color=step.color)
        for index, step in enumerate(steps)
    ]
    return build.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(listed)


def _override(
    drawn: Any, names: Sequence[str], properties: list[dashboard.DynamicConfigValue]
) -> Any:
    return drawn.with_override(
        dashboard.MatcherConfig(
            id_val="byNames", options={"mode": "include", "names": list(names)}
        ),
        properties,
    )


def _fixed(drawn: Any, names: Sequence[str]) -> Any:
    for name in names:
        drawn = _override(
            drawn,
            [name],
            [dashboard.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": MEANING[name]})],
        )
    return drawn


def _stat(panel: Panel) -> Any:
    drawn = (
        stat.Panel()
        .graph_mode(common.BigValueGraphMode.NONE)
        .color_mode(common.BigValueColorMode.VALUE)
        .text_mode(
            common.BigValueTextMode.VALUE_AND_NAME
            if len(panel.columns) > 1
            else common.BigValueTextMode.VALUE
        )
        .reduce_options(build_common.ReduceDataOptions().calcs(["lastNotNull"]))
        .orientation(common.VizOrientation.VERTICAL)
    )
    if panel.steps:
        drawn = drawn.thresholds(_thresholds(panel.steps)).color_scheme(
            build.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS)
        )
    else:
        drawn = drawn.color_scheme(
            build.FieldColor().mode(dashboard.FieldColorModeId.FIXED).fixed_color("text")
        )
    return drawn


def _time_series(panel: Panel) -> Any:
    legend = (
        build_common.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
    )
    drawn = (
        timeseries.Panel()
        .legend(legend.show_legend(True))
        .tooltip(
            build_common.VizTooltipOptions()
            .mode(common.TooltipDisplayMode.MULTI)
            .sort(common.SortOrder.DESCENDING)
        )
        .color_scheme(build.FieldColor().mode(dashboard.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        .axis_soft_min(0)
    )
    drawn = drawn.data_links(_series_links(panel))
    if panel.series:
        drawn = drawn.display_name(f"${{__field.labels.{panel.series}}}")
    if panel.series or panel.promql:
        return _fixed(drawn, ("ok", "error", "failed", "abandoned", "(other)", "(none)"))
    return _fixed(drawn, [name for name in panel.columns if name in MEANING])


def _lines(panel: Panel) -> Any:
    return (
        _time_series(panel)
        .draw_style(common.GraphDrawStyle.LINE)
        .line_width(2)
        .fill_opacity(6)
        .span_nulls(True)
    )


def _stack(panel: Panel) -> Any:
    stacking = build_common.StackingConfig().mode(common.StackingMode.NORMAL)
    return (
        _time_series(panel)
        .draw_style(common.GraphDrawStyle.BARS)
        .fill_opacity(80)
        .line_width(0)
        .stacking(stacking)
    )


def _bars(panel: Panel) -> Any:
    reduce = build_common.ReduceDataOptions().values(True).calcs(["lastNotNull"])
    return (
        bargauge.Panel()
        .orientation(common.VizOrientation.HORIZONTAL)
        .display_mode(common.BarGaugeDisplayMode.BASIC)
        .value_mode(common.BarGaugeValueMode.TEXT)
        .reduce_options(reduce)
        .color_scheme(build.FieldColor().mode(dashboard.FieldColorModeId.FIXED).fixed_color(GOOD))
        .min(0)
    )


def _heatmap(_panel: Panel) -> Any:
    color = heatmap.HeatmapColorOptions().scheme("Blues").steps(32)
    return (
        heatmap.Panel()
        .calculate(False)
        .color(color)
        .y_axis(heatmap.YAxisConfig().unit(Unit.SECONDS))
    )


def _table(panel: Panel) -> Any:
    drawn = table.Panel().cell_height(common.TableCellHeight.SM)
    drawn = drawn.data_links(_row_links(panel))
    for column in panel.columns.values():
        properties = _cell(column)
        if properties:
            drawn = _override(drawn, [heading(column)], properties)
    return drawn


def _cell(column: Column) -> list[dashboard.DynamicConfigValue]:
    if column.bar:
        return [
            dashboard.DynamicConfigValue(
                "custom.cellOptions", {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"}
            ),
            dashboard.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": GOOD}),
        ]
    if column.steps:
        scale = 100 if column.unit is Unit.SHARE else 1
        steps = [
            {"value": None if index == 0 else step.value * scale, "color": step.color}
            for index, step in enumerate(column.steps)
        ]
        return [
            dashboard.DynamicConfigValue("thresholds", {"mode": "absolute", "steps": steps}),
            dashboard.DynamicConfigValue("color", {"mode": "thresholds"}),
            dashboard.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}),
        ]
    return []


def _row_links(panel: Panel) -> list[Any]:
    """Return the links of a table's rows.

    They lead to the runs behind the row, to its trace or traces like it, and to the board about
    the thing it names.
    """
    values = {}
    for name, column in panel.columns.items():
        values[name] = f'${{__data.fields["{heading(column)}"]:percentencode}}'
    links = [_own_link(name, column, values[name]) for name, column in panel.columns.items()]
    found = [link for link in links if link is not None]
    if "run_id" in values:
        return found
    if "kind" in values:
        # The name is of whatever kind the row says, so it sets no filter.
        return [*found, *_links_by_name({})]
    return [*found, *_links_by_name(values)]


def _series_links(panel: Panel) -> list[Any]:
    """Return the links of a curve: the runs behind it, and traces like them."""
    values = {}
    if panel.series:
        values[panel.series] = f"${{__field.labels.{panel.series}:percentencode}}"
    return _links_by_name(values)


def _links_by_name(values: Mapping[str, str]) -> list[Any]:
    """Return links to the runs and traces that the named things took part in."""
    address = _RUNS
    for name, value in values.items():
        if name in _RUN_FILTERS:
            address += f"&{_RUN_FILTERS[name]}={value}"
    if "session" in values:
        address += f"&where=session%3D%22{values['session']}%22"
    links = [_blank("Open the runs behind it", address)]
    for name, value in values.items():
        if name in _TRACE_ATTRIBUTES:
            query = f'{{ {_TRACE_ATTRIBUTES[name]} = \\"{value}\\" }}'
            links.append(_blank("Find its traces", _explore(query, value)))
            break
    return links


def _own_link(name: str, column: Column, value: str) -> Any:
    """Return the link that a column says it has."""
    if column.link == "trace":
        return _blank("Open the trace", _explore(value, value))
    if column.link == "run":
        return _blank("Open the run", f"${{page}}/?view=run&run={value}")
    if column.link:
        return build.DashboardLink(f"Open this {name}").url(
            f"/d/crewmeter-{column.link}?{_CURRENT_RANGE}&var-{name}={value}"
        )
    return None


def _explore(query: str, value: str) -> str:
    """Return the address of Grafana's Explore with a TraceQL query that holds `value`."""
    pane = _TRACE_PANE.replace("TRACE", query.replace(value, "VALUE"))
    encoded = quote(pane, safe="${}._").replace("VALUE", value)
    return f"/explore?schemaVersion=1&panes={encoded}"


def _blank(title: str, url: str) -> Any:
    """Return a link that opens in a new tab."""
    return build.DashboardLink(title).url(url).target_blank(True)
