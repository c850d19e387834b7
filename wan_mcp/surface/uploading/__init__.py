"""What users see who upload files: the page, and the answers to their requests."""
