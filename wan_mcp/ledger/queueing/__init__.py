"""The queue: requests that wait until the limits of the operator have room for them."""
