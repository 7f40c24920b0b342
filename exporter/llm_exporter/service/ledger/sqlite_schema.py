"""The schema of the SQLite ledger. Migrations are never edited, only added."""

from __future__ import annotations

from typing import Final

APPLICATION_ID: Final = 0x6C6C6D65  # "llme"
"""Marks the file as ours: https://www.sqlite.org/pragma.html#pragma_application_id"""

MIGRATIONS: Final = (
    """
    CREATE TABLE calls (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        received REAL NOT NULL,
        started REAL NOT NULL,
        provider TEXT NOT NULL,
        model TEXT NOT NULL,
        operation TEXT NOT NULL,
        agent TEXT NOT NULL,
        phase TEXT NOT NULL,
        project TEXT NOT NULL,
        session TEXT NOT NULL,
        errors INTEGER NOT NULL,
        cost_usd REAL NOT NULL,
        input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        unpriced_tokens INTEGER NOT NULL,
        call TEXT NOT NULL  -- as JSON
    ) STRICT;
    CREATE INDEX calls_by_start ON calls (started);
    CREATE INDEX calls_by_session ON calls (session, position);
    CREATE TABLE checkpoint (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        position INTEGER NOT NULL,
        counted TEXT NOT NULL
    ) STRICT;
    CREATE TABLE released (series TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
    CREATE TABLE resets (session TEXT PRIMARY KEY, position INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    """,
    """
    CREATE TABLE accounts (
        account TEXT PRIMARY KEY,
        expires REAL NOT NULL,
        usd REAL NOT NULL,
        tokens INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE rules (rule TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
    """,
    """
    CREATE TABLE sums (  -- totals of the calls of each day and each hour
        span INTEGER NOT NULL,  -- its length in seconds
        started INTEGER NOT NULL,
        provider TEXT NOT NULL,
        model TEXT NOT NULL,
        operation TEXT NOT NULL,
        agent TEXT NOT NULL,
        phase TEXT NOT NULL,
        project TEXT NOT NULL,
        calls INTEGER NOT NULL,
        errors INTEGER NOT NULL,
        cost_usd REAL NOT NULL,
        input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        unpriced_tokens INTEGER NOT NULL,
        PRIMARY KEY (span, started, provider, model, operation, agent, phase, project)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO sums
        SELECT value, CAST(started AS INTEGER) / value * value,
            provider, model, operation, agent, phase, project,
            count(*), sum(errors), total(cost_usd), CAST(total(input_tokens) AS INTEGER),
            CAST(total(output_tokens) AS INTEGER), CAST(total(unpriced_tokens) AS INTEGER)
        FROM calls, json_each('[86400, 3600]') GROUP BY 1, 2, 3, 4, 5, 6, 7, 8;
    """,
    """
    CREATE TABLE leases (
        account TEXT PRIMARY KEY,
        expires REAL NOT NULL,
        leases TEXT NOT NULL  -- by process, as JSON
    ) STRICT, WITHOUT ROWID;
    """,
    """
    ALTER TABLE calls ADD COLUMN approximated_tokens INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE sums ADD COLUMN approximated_tokens INTEGER NOT NULL DEFAULT 0;
    """,
    """
    CREATE TABLE groups (  -- of calls with the same labels
        id INTEGER PRIMARY KEY,
        labels TEXT NOT NULL,  -- as JSON, except for those that `sums` has columns for
        reset INTEGER NOT NULL,  -- the position of the last reset of the session without a name
        UNIQUE (labels, reset)
    ) STRICT;
    INSERT INTO groups VALUES (0, 'null', -2);  -- calls of older releases, until they have a group
    ALTER TABLE calls ADD COLUMN group_id INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE sums_by_group (
        span INTEGER NOT NULL,
        started INTEGER NOT NULL,
        provider TEXT NOT NULL,
        model TEXT NOT NULL,
        operation TEXT NOT NULL,
        agent TEXT NOT NULL,
        phase TEXT NOT NULL,
        project TEXT NOT NULL,
        group_id INTEGER NOT NULL,
        calls INTEGER NOT NULL,
        errors INTEGER NOT NULL,
        cost_usd REAL NOT NULL,
        input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        unpriced_tokens INTEGER NOT NULL,
        approximated_tokens INTEGER NOT NULL,
        PRIMARY KEY (span, started, provider, model, operation, agent, phase, project, group_id)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO sums_by_group
        SELECT span, started, provider, model, operation, agent, phase, project, 0,
            calls, errors, cost_usd, input_tokens, output_tokens, unpriced_tokens, approximated_tokens
        FROM sums;
    DROP TABLE sums;
    ALTER TABLE sums_by_group RENAME TO sums;
    CREATE INDEX sums_of_group ON sums (group_id, span, started);
    """,
    """
    CREATE TABLE backlogs (  -- rules to which earlier calls are still to be charged
        rule TEXT PRIMARY KEY,
        position INTEGER NOT NULL,  -- calls after this one are charged when they are added
        before_start REAL NOT NULL,  -- earlier ones are charged from the newest to the oldest: these remain
        before_position INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    """,
)
"""Each creates a version of the schema from the one before. `user_version` is the number that have run."""
