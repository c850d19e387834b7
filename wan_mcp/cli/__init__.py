"""The command line: every command beside the stdio server itself."""
