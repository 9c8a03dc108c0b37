"""Jobs on recorded calls: retention and re-pricing."""
