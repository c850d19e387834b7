"""PixelDojo's API: the only package that knows its spelling and how to reach it."""
