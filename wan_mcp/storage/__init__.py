"""Where files are kept: the data folder of one user, locks on files, and object storage."""
