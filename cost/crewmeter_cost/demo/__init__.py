"""`crewmeter demo`: a stand-in provider, a real crew against it, and a seeded history."""
