"""One patch for each HTTP library."""
