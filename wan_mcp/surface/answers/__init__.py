"""What an answer says: its data, its text, and what to do next."""
