"""Where a user stores a PixelDojo key of their own, and how a host leads there."""
