"""Budget checks before a call, and what they expect of a budget."""
