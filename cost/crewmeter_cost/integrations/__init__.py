"""Other programs that use the ledger: assistants over MCP, and pytest."""
