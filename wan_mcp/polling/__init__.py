"""Every rule of waiting: when PixelDojo is asked, and who is informed."""
