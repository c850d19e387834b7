"""The transports by which hosts reach the server, and how it stops."""
