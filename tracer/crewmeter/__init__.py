"""crewmeter, the app's side: one line in a CrewAI app turns every call into spans and a priced ledger."""
