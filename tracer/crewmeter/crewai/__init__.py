"""The only code that imports CrewAI: its event bus, and how events become spans."""
