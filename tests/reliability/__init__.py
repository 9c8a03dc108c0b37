"""What crewmeter promises under kills, faults and hostile input, and the tests that show it."""
