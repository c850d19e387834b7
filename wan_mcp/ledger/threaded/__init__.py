"""The ledger on any engine: transactions run in a thread of their own, never in the event loop."""
