"""What is written down of every paid request, and the rules over it."""
