"""The command line: every command apart from the stdio server itself."""
