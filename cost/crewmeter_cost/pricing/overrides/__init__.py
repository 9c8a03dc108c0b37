"""The user's own prices: schema and reader of the overrides file."""
