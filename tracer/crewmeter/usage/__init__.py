"""Token usage: the value, estimates, and CrewAI's own counters."""
