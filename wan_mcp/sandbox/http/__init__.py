"""HTTP as the sandbox serves it, faults included."""
