"""Finished videos: saved once, kept, and shown."""
