"""What is known of each provider: its hosts, its protocols, and how to read its answers."""
