"""Commands for the operator of a team: the ledger in PostgreSQL, people, wallets and limits."""
