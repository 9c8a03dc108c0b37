"""The only module that imports grafana-foundation-sdk.

Its v1 modules warn on import that v2 exists; v1 JSON is what Grafana 12 and 13 both load.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.builders import (
        bargauge,
        heatmap,
        prometheus,
        stat,
        table,
        timeseries,
    )
    from grafana_foundation_sdk.builders import common as build_common
    from grafana_foundation_sdk.builders import dashboard as build
    from grafana_foundation_sdk.cog.builder import Builder
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.variants import Dataquery
    from grafana_foundation_sdk.models import common, dashboard
    from grafana_foundation_sdk.models.prometheus import PromQueryFormat

__all__ = [
    "Builder",
    "Dataquery",
    "JSONEncoder",
    "PromQueryFormat",
    "bargauge",
    "build",
    "build_common",
    "common",
    "dashboard",
    "heatmap",
    "prometheus",
    "stat",
    "table",
    "timeseries",
]
