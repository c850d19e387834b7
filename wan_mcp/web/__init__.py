"""The public web: links, addresses, and how files are fetched."""
