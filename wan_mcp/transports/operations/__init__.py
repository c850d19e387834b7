"""What an operator needs beside MCP: health checks, metrics, proxies, limits on slow clients."""
