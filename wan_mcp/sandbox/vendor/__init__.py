"""PixelDojo's own behavior: its books, its words, its routes."""
