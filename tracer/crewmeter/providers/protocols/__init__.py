"""One file for each way to speak to models, each a frozen value."""
