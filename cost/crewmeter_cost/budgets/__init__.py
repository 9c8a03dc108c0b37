"""Budgets: an amount per period and scope, reserved before a call, settled after."""
