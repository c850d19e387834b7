"""The look at both inputs before anything is paid."""
