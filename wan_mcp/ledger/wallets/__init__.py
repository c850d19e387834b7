"""One PixelDojo key for one user or several: whose a request is, and whose limits count for it."""
