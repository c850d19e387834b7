"""What a model or a host sees."""
