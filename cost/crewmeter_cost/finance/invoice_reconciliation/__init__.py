"""The ledger against what others say: a provider's own books, CrewAI's own totals, today's price book."""
