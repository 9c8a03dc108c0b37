"""Output for a person at the terminal: log lines and the summary after a run."""
