"""The format of the ledger's file, one step for each version of it.

Steps only add: a server of an older version may be alive on the file, with a paid request in the
air, and must still be able to record its answer.
"""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE jobs (
            number            INTEGER PRIMARY KEY,
            handle            TEXT NOT NULL UNIQUE,
            account           TEXT NOT NULL,
            state             TEXT NOT NULL,
            job_id            TEXT,
            digest            TEXT,
            exact             TEXT,
            arguments         TEXT NOT NULL,
            seed              TEXT,
            seed_planted      INTEGER NOT NULL DEFAULT 0,
            estimate          REAL,
            credit_cost       REAL,
            credits_remaining REAL,
            vendor_status     TEXT NOT NULL DEFAULT '',
            video_url         TEXT,
            expires_at        REAL,
            error             TEXT,
            note              TEXT,
            created_at        REAL NOT NULL,
            sent_at           REAL,
            accepted_at       REAL,
            ended_at          REAL,
            owner             TEXT NOT NULL,
            checks            INTEGER NOT NULL DEFAULT 0,
            next_check_at     REAL,
            findings          TEXT
        )
        """,
        # The last word against paying twice: even a wrong claim cannot insert a second live row.
        # The states stand in the order that `listed` gives them, else no query uses the index.
        """
        CREATE UNIQUE INDEX live ON jobs (account, digest)
        WHERE state IN ('accepted', 'intent', 'sending', 'unknown')
        """,
        "CREATE INDEX unsettled ON jobs (owner) WHERE state IN ('intent', 'sending')",
        "CREATE INDEX ended ON jobs (account, exact) WHERE state IN ('completed', 'lost')",
        "CREATE INDEX by_job_id ON jobs (account, job_id) WHERE job_id IS NOT NULL",
        "CREATE INDEX by_age ON jobs (account, created_at)",
        "CREATE TABLE secret (account_key BLOB NOT NULL)",
    ),
    (
        "ALTER TABLE jobs ADD COLUMN looked_at REAL",
        "ALTER TABLE jobs ADD COLUMN heard_at REAL",
        "ALTER TABLE jobs ADD COLUMN watched_until REAL",
        "ALTER TABLE jobs ADD COLUMN trouble TEXT",
        "ALTER TABLE jobs ADD COLUMN trouble_code TEXT",
        "ALTER TABLE jobs ADD COLUMN saved_path TEXT",
        "ALTER TABLE jobs ADD COLUMN sha256 TEXT",
        "ALTER TABLE jobs ADD COLUMN size INTEGER",
        "ALTER TABLE jobs ADD COLUMN not_saved TEXT",
        """
        CREATE TABLE keys (
            account      TEXT PRIMARY KEY,
            poller       TEXT,
            poller_until REAL,
            per_minute   INTEGER NOT NULL DEFAULT 10,
            cut_at       REAL,
            held_until   REAL
        )
        """,
        # Asked for every second; an account's history only grows.
        """
        CREATE INDEX polled ON jobs (account) WHERE job_id IS NOT NULL
        AND (state = 'accepted' OR state = 'completed' AND video_url IS NULL)
        """,
        # Partial, so that a submit, which has not ended, does not pay for it.
        """
        CREATE INDEX unsaved ON jobs (account, ended_at)
        WHERE ended_at IS NOT NULL AND saved_path IS NULL
        """,
        "CREATE TABLE requests (account TEXT NOT NULL, made_at REAL NOT NULL)",
        "CREATE INDEX requests_by_time ON requests (account, made_at)",
    ),
    (
        "ALTER TABLE jobs ADD COLUMN checked_at REAL",
        "ALTER TABLE jobs ADD COLUMN proof_readings INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE jobs ADD COLUMN proof_at REAL",
        "ALTER TABLE jobs ADD COLUMN video_folder TEXT",
        "ALTER TABLE jobs ADD COLUMN video_limit_gb REAL",
    ),
)
"""One entry for each version of the schema: the statements that lead to it from the one before."""
