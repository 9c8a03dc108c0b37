"""Time zones of boards and alert rules: their SQL, and boards moved to one."""
