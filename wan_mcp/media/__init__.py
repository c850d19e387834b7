"""Files of the public web: what goes into a job is looked at, what comes out of it is kept."""
