"""Sample data: a month of calls of an invented company."""
