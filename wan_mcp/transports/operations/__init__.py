"""What an operator needs beside MCP: health checks, metrics, proxies, and limits on slow clients."""
