"""The commands about the user's own jobs and videos: jobs, show, open, forget."""
