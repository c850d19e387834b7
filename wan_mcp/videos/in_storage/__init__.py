"""Videos in object storage: how they come there, and the links under which they are shown."""
