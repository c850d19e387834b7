"""Who a request over HTTP comes from, and what it may do."""
