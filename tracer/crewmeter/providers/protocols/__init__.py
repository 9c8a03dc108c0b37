"""One file for each way to speak to models: all that is known of it, as one frozen value."""
