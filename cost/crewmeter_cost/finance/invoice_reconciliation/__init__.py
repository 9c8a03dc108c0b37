"""The ledger compared with provider invoices, CrewAI's totals and today's prices."""
