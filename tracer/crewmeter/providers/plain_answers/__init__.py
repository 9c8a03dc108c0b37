"""The short ways to read whole answers that are plain, one file a protocol."""
