"""Observation of providers' HTTP calls, by whichever library they are sent.

What is known of vendors is in `crewmeter.providers`.
"""
