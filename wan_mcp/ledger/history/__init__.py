"""The requests of all accounts, for the owner of the ledger: looked at, added up and forgotten."""
