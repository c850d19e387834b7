"""The pages on which users store PixelDojo keys of their own."""
