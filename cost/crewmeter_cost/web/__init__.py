"""The local page: the boards read straight from a ledger, in a browser, offline."""

from __future__ import annotations

from crewmeter_cost.web.routes import page_routes

__all__ = ["page_routes"]
