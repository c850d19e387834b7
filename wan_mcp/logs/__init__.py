"""What an operator learns: lines in the log, and facts that are counted."""
