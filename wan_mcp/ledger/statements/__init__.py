"""Every SQL statement of the ledger, by name, for SQLite and PostgreSQL."""

from wan_mcp.ledger.statements import coordination, lists, queue, records, spending

__all__ = ["coordination", "lists", "queue", "records", "spending"]
