"""The only rooms that may buy."""
