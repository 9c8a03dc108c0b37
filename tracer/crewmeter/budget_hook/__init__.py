"""Budget checks before a call: the hook CrewAI runs, and what it expects of a budget."""
