"""PixelDojo's own behavior: its accounts and jobs, its schema and its JSON replies."""
