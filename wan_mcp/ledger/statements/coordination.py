"""Statements about leases, the rate limit, and the secret."""

from wan_mcp.ledger.statements.dialects import Statement, both

# Leases, the rate limit, and the secret.

INSERT_KEY = both("INSERT INTO keys (account) VALUES (:account) ON CONFLICT DO NOTHING")
KEY = both(
    "SELECT poller, poller_until, per_minute, cut_at, held_until FROM keys WHERE account = :account"
)
TAKE_LEASE = both("UPDATE keys SET poller = :me, poller_until = :until WHERE account = :account")
LEAVE_LEASE = both("UPDATE keys SET poller = NULL WHERE account = :account AND poller = :me")
SET_LIMIT = both(
    "UPDATE keys SET per_minute = :per_minute, cut_at = :cut_at, held_until = :held_until "
    "WHERE account = :account"
)
FORGET_REQUESTS = both("DELETE FROM requests WHERE account = :account AND made_at <= :since")
# Requests that a wrong clock dated in the future count as made now: they are neither forgotten nor
# counted for long.
DATE_BACK_REQUESTS = both(
    "UPDATE requests SET made_at = :now WHERE account = :account AND made_at > :now"
)
REQUEST_AGES = both("SELECT :now - made_at FROM requests WHERE account = :account ORDER BY made_at")
INSERT_REQUEST = both("INSERT INTO requests (account, made_at) VALUES (:account, :now)")
# Only of wallets that several workspaces share.
INSERT_WORKSPACE = both(
    "INSERT INTO workspaces (wallet, name) VALUES (:shared_wallet, :workspace) "
    "ON CONFLICT DO NOTHING"
)
WORKSPACES = both("SELECT name FROM workspaces WHERE wallet = :shared_wallet")
# SQLite has no people.
PEOPLE_VERSION = Statement("SELECT 0", "SELECT version FROM people_version")
SECRET = both("SELECT account_key FROM secret")
