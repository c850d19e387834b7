"""Answers: their data, their text, and what to do next."""
