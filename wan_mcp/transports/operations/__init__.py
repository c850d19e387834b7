"""For operators, beside MCP: health checks, metrics, proxies, limits on slow clients."""
