"""The only room that may buy."""
