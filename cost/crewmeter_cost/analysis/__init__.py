"""Questions about recorded calls: forecast, what-if and savings."""
