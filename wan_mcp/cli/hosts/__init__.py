"""The MCP hosts that people use: where each keeps its configuration, and how ours is added."""
