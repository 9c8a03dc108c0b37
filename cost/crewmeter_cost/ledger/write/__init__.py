"""From priced calls to rows, dimensions and roll-ups, in one transaction."""
