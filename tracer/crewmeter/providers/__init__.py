"""What is known of each provider: hosts, protocols, and reading answers."""
