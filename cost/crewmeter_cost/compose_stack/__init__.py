"""The compose stack: files for a project of one's own, written into a folder.

They are the compose file, the collector configurations, boards and rules.
"""

from __future__ import annotations

from crewmeter_cost.compose_stack.stack_files import stack_files
from crewmeter_cost.compose_stack.write import write_stack, zone_in

__all__ = ["stack_files", "write_stack", "zone_in"]
