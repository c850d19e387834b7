"""The format of the ledger's file, and the steps from each version of it to the next.

A step only adds. A server of an older version may still use the file and wait for the answer to a
paid request, and it must be able to record that answer.

Some columns have other names than the fields of a record: see `statements.columns`.
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
        # The last protection against paying twice: even a defective claim cannot insert a second
        # live record. The states are in the order of `columns.states`: a query uses the index
        # only if it names them in the same order.
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
        # The poller reads these jobs every second, and the history of an account only grows.
        """
        CREATE INDEX polled ON jobs (account) WHERE job_id IS NOT NULL
        AND (state = 'accepted' OR state = 'completed' AND video_url IS NULL)
        """,
        # Partial, so that a submit, whose job has not ended, does not have to update it.
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
    ("ALTER TABLE jobs ADD COLUMN last_save_error TEXT",),
    ("ALTER TABLE jobs ADD COLUMN end_reported_at REAL",),
    # So that a long history slows down no read that a call waits for.
    (
        "CREATE INDEX unknown ON jobs (account) WHERE state = 'unknown'",
        # Partial, so that a submit, whose job has not ended, does not have to update it.
        """
        CREATE INDEX ended_by_age ON jobs (account, state, created_at)
        WHERE state NOT IN ('accepted', 'intent', 'sending', 'unknown')
        """,
        # The expression is that of `spending.PRICE`.
        """
        CREATE INDEX by_price ON jobs (account, (CASE WHEN COALESCE(credit_cost, estimate) < 0
        THEN 0 ELSE COALESCE(credit_cost, estimate) END)) WHERE digest IS NOT NULL
        """,
        "CREATE TABLE home (path BLOB NOT NULL)",
    ),
    (
        "ALTER TABLE jobs ADD COLUMN source_seconds REAL",
        "ALTER TABLE jobs ADD COLUMN source_frames_per_second REAL",
        "ALTER TABLE jobs ADD COLUMN source_has_sound INTEGER",
        "ALTER TABLE jobs ADD COLUMN inspection TEXT",
        # The saver reads these jobs every few seconds; only those of the last day are inspected.
        """
        CREATE INDEX uninspected ON jobs (account, ended_at)
        WHERE ended_at IS NOT NULL AND saved_path IS NOT NULL AND inspection IS NULL
        """,
    ),
    # All that the totals of an account read of a job that has ended.
    (
        """
        CREATE INDEX spent ON jobs (account, state, created_at, credit_cost, digest)
        WHERE state IN ('completed', 'failed', 'lost') AND digest IS NOT NULL
        """,
    ),
    (
        "ALTER TABLE jobs ADD COLUMN forgotten_at REAL",
        "ALTER TABLE jobs ADD COLUMN spelling_key TEXT",
        # Empty, except while `erasure` fills the free room of the file.
        "CREATE TABLE erasure (filling BLOB)",
    ),
    # SQLite builds a table in memory whenever it compares a value with more than two others, and
    # every change of a state is compared with the condition of each index. These two have the same
    # conditions in pairs, and also contain all that a claim reads of the jobs that have ended.
    (
        "DROP INDEX ended_by_age",
        """
        CREATE INDEX ended_by_age ON jobs (account, state, created_at, number, ended_at)
        WHERE state NOT IN ('accepted', 'intent') AND state NOT IN ('sending', 'unknown')
        """,
        "DROP INDEX spent",
        """
        CREATE INDEX spent ON jobs (account, state, created_at, credit_cost, estimate, digest)
        WHERE (state IN ('completed', 'failed') OR state = 'lost') AND digest IS NOT NULL
        """,
    ),
    # A submit writes three times to each index that contains records that have not ended.
    (
        "DROP INDEX unsettled",  # `live` has those records too, and never many
        "DROP INDEX by_price",
        """
        CREATE INDEX by_price ON jobs (account, (CASE WHEN COALESCE(credit_cost, estimate) < 0
        THEN 0 ELSE COALESCE(credit_cost, estimate) END)) WHERE digest IS NOT NULL
        AND state NOT IN ('accepted', 'intent') AND state NOT IN ('sending', 'unknown')
        """,
        "DROP INDEX polled",
        """
        CREATE INDEX polled ON jobs (account)
        WHERE state = 'completed' AND job_id IS NOT NULL AND video_url IS NULL
        """,
    ),
    # A queued request is `not_sent` with a `queued_until`: see `record.State.QUEUED`.
    (
        "ALTER TABLE jobs ADD COLUMN queued_at REAL",
        "ALTER TABLE jobs ADD COLUMN queued_until REAL",
        "ALTER TABLE jobs ADD COLUMN queued_request TEXT",
        "CREATE INDEX queued ON jobs (account, number) WHERE queued_until IS NOT NULL",
    ),
    # The saver reads which videos to spare each time it saves one; this index has few records.
    (
        "ALTER TABLE jobs ADD COLUMN kept INTEGER NOT NULL DEFAULT 0",
        "CREATE INDEX kept ON jobs (saved_path) WHERE kept = 1",
    ),
    # A list is in the order in which the jobs were asked for, also those that waited in the queue.
    (
        "DROP INDEX ended_by_age",
        """
        CREATE INDEX ended_by_age ON jobs (account, state, number, ended_at)
        WHERE state NOT IN ('accepted', 'intent') AND state NOT IN ('sending', 'unknown')
        """,
    ),
    # The total cost of the ended jobs of an account, so that a list need not read all of them. For
    # each job its part of the total is stored, so that a change by any server is noticed. A trigger
    # would not do: if it failed, a server of an older version would lose the answer to a payment.
    (
        """
        CREATE TABLE totals (
            account      TEXT PRIMARY KEY,
            jobs         INTEGER NOT NULL,
            credits      REAL NOT NULL,
            without_cost INTEGER NOT NULL
        )
        """,
        "ALTER TABLE jobs ADD COLUMN counted_as REAL",
        """
        CREATE INDEX uncounted ON jobs (account, state, credit_cost, counted_as, digest)
        WHERE COALESCE(counted_as, -2e300) <> COALESCE(CASE WHEN digest IS NOT NULL
        AND (state IN ('completed', 'failed') OR state = 'lost')
        THEN COALESCE(credit_cost, -1e300) END, -2e300)
        """,
    ),
    # One person's file has neither a shared wallet nor a row in this table.
    (
        "ALTER TABLE jobs ADD COLUMN wallet TEXT",
        "CREATE TABLE workspaces (wallet TEXT, name TEXT, PRIMARY KEY (wallet, name)) "
        "WITHOUT ROWID",
    ),
)
"""For each version of the format, the statements that lead to it from the version before."""

MOVED = 1_000_000
"""The version of the format of a file whose ledger was moved elsewhere, see `moved`. Every program
refuses it, also version 0.1.0, because it is higher than the one that it knows."""
