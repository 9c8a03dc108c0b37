"""Shared by the tests: environments, apps run as users run them, ledgers read back row by row."""
