"""The sandbox's videos: samples, and cuts of the job's own clip."""
