"""The requests of all accounts, for the owner of the ledger: to list, add up and forget."""
