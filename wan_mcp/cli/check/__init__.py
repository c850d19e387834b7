"""`wan-mcp check`: looks at everything that a job needs, and buys nothing."""
