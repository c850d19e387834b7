"""The vendor's room: the only place that knows PixelDojo's words and how to reach it."""
