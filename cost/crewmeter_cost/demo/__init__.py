"""The demo: a fake provider, a real crew that calls it, and a seeded history."""
