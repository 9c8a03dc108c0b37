"""Budgets: an amount per period for a scope, reserved before a call, settled after."""
