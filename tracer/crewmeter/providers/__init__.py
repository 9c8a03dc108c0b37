"""One file for each provider protocol, and the registry that finds it by host and path."""
