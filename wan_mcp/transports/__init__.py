"""How hosts reach the server, and how it stops."""
