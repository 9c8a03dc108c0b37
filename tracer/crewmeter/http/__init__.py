"""Observation of providers' HTTP calls, by whichever library they are sent.

Knows no vendor.
"""
