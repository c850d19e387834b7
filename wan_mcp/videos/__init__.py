"""Finished videos: saved once, kept within a limit, and shown."""
