"""Chargeback: allocation of shared cost, monthly statements, the FOCUS export."""
