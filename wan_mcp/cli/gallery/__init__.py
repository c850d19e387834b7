"""`wan-mcp gallery`: the user's videos as pictures, in the user's own browser."""
