"""The player: a page that hosts with MCP Apps show beside the tools' answers."""
