"""Where files lie: the data folder of one user, locks on files, object storage, lent files."""
