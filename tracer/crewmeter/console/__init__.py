"""What a person at the terminal sees: run log lines and the summary after a kickoff."""
