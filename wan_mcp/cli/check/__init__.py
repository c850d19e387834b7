"""`wan-mcp check`: checks everything that a job needs, and buys nothing."""
