"""Videos in object storage: how they get there, and the links under which they are shown."""
