"""The sandbox's videos: the samples, and those rendered from a job's own inputs."""
