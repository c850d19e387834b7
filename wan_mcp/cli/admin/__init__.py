"""What the operator of a team does: the ledger in PostgreSQL, people, wallets and limits."""
