"""A ledger's copy in ClickHouse, for boards over more history than one machine wants to read."""
