"""A ledger's copy in ClickHouse, for boards over long histories."""
