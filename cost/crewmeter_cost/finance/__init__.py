"""Chargeback: who owes what. Allocation of shared cost, monthly statements, the FOCUS export."""
