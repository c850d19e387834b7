"""Checks of both inputs before anything is paid."""
