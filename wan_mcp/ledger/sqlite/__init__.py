"""What only SQLite needs: connection, schema, liveness of processes, the folder."""
