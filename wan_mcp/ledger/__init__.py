"""The durable record of every paid request, and the rules about it."""
