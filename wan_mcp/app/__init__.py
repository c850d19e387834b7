"""What a running server holds, opened on first use and closed in order."""
