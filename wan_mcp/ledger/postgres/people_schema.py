"""The tables of a team's people, which only PostgreSQL has. What uses them is in `tenants`.

Dates are seconds since 1970 UTC, as in all tables of the ledger. No row is ever deleted, so an id
that stands in an audit row or in a job always has its meaning.
"""

PEOPLE: tuple[str, ...] = (
    # Everybody whom `issuer` vouches for may join the team; NULL for nobody.
    """
    CREATE TABLE teams (
        id         TEXT PRIMARY KEY,
        name       TEXT NOT NULL UNIQUE,
        issuer     TEXT UNIQUE,
        created_at DOUBLE PRECISION NOT NULL
    )
    """,
    # `issuer` and `subject` are whom an authorization server vouches for; both NULL for a user who
    # has only tokens.
    """
    CREATE TABLE users (
        id          TEXT PRIMARY KEY,
        team_id     TEXT REFERENCES teams,
        issuer      TEXT,
        subject     TEXT,
        name        TEXT NOT NULL,
        created_at  DOUBLE PRECISION NOT NULL,
        disabled_at DOUBLE PRECISION,
        UNIQUE (issuer, subject),
        CHECK ((issuer IS NULL) = (subject IS NULL))
    )
    """,
    "CREATE INDEX users_by_team ON users (team_id)",
    "CREATE INDEX users_by_name ON users (name)",
    # `sha256` is that of the whole token; `scopes` has spaces between them.
    """
    CREATE TABLE tokens (
        id         TEXT PRIMARY KEY,
        user_id    TEXT NOT NULL REFERENCES users,
        note       TEXT NOT NULL,
        sha256     BYTEA NOT NULL,
        scopes     TEXT NOT NULL,
        created_at DOUBLE PRECISION NOT NULL,
        expires_at DOUBLE PRECISION NOT NULL,
        used_at    DOUBLE PRECISION,
        revoked_at DOUBLE PRECISION
    )
    """,
    "CREATE INDEX tokens_by_user ON tokens (user_id)",
    # A wallet is one PixelDojo key, of a team or of one user. `account` names it in the ledger for
    # ever: the account of its first key. `key_account` is the account of the key that it has now,
    # so that no two wallets have the same key. The table `wallets` has the locks of all accounts.
    """
    CREATE TABLE wallet_keys (
        account     TEXT PRIMARY KEY,
        name        TEXT NOT NULL UNIQUE,
        team_id     TEXT REFERENCES teams,
        user_id     TEXT REFERENCES users,
        api_base    TEXT NOT NULL,
        key_sealed  TEXT,
        key_account TEXT UNIQUE,
        created_at  DOUBLE PRECISION NOT NULL,
        removed_at  DOUBLE PRECISION,
        CHECK ((team_id IS NULL) <> (user_id IS NULL)),
        CHECK ((removed_at IS NULL) = (key_sealed IS NOT NULL)),
        CHECK ((key_sealed IS NULL) = (key_account IS NULL))
    )
    """,
    "CREATE UNIQUE INDEX wallet_of_team ON wallet_keys (team_id) WHERE removed_at IS NULL",
    "CREATE UNIQUE INDEX wallet_of_user ON wallet_keys (user_id) WHERE removed_at IS NULL",
    # Whose the jobs of a workspace are: `name` is their account, `wallet` that of the wallet.
    """
    CREATE TABLE user_workspaces (
        name      TEXT PRIMARY KEY,
        user_id   TEXT NOT NULL REFERENCES users,
        wallet    TEXT NOT NULL REFERENCES wallet_keys,
        opened_at DOUBLE PRECISION NOT NULL,
        UNIQUE (user_id, wallet)
    )
    """,
    "CREATE INDEX user_workspaces_by_wallet ON user_workspaces (wallet)",
    # `kind` is user, team or wallet, and `id` that of the row there. NULL is no limit.
    """
    CREATE TABLE limits (
        kind               TEXT NOT NULL,
        id                 TEXT NOT NULL,
        credits_per_job    DOUBLE PRECISION,
        credits_per_day    DOUBLE PRECISION,
        in_flight          BIGINT,
        submits_per_minute BIGINT,
        PRIMARY KEY (kind, id)
    )
    """,
    # One row. The number changes with everything that decides which wallet pays for a user, whose
    # jobs count together, and up to which limit.
    "CREATE TABLE people_version (version BIGINT NOT NULL)",
    "INSERT INTO people_version (version) VALUES (0)",
    # Who did what to what, and with which result. `detail` is a JSON object.
    """
    CREATE TABLE audit (
        id     TEXT PRIMARY KEY,
        at     DOUBLE PRECISION NOT NULL,
        actor  TEXT NOT NULL,
        action TEXT NOT NULL,
        target TEXT NOT NULL,
        result TEXT NOT NULL,
        detail TEXT NOT NULL
    )
    """,
    "CREATE INDEX audit_by_time ON audit (at)",
    # What `tenants.paid_acts` looks for.
    "CREATE INDEX ended_of_users ON jobs (ended_at) WHERE wallet IS NOT NULL",
)
"""The statements that make them."""
