"""What only PostgreSQL needs: connections, schema, leases of processes, wake-up."""
