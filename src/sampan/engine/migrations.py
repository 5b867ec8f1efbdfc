"""The state's schema, as the steps that made it. A step is never changed once released; a new one is added below."""

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE containers (
        id         TEXT PRIMARY KEY,
        name       TEXT NOT NULL UNIQUE,
        created_ns INTEGER NOT NULL,
        image_id   TEXT NOT NULL,
        image_name TEXT NOT NULL,
        body       BLOB NOT NULL,
        mounts     BLOB NOT NULL,
        state      BLOB NOT NULL,
        spec       BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE volumes (
        name       TEXT PRIMARY KEY,
        created_ns INTEGER NOT NULL,
        anonymous  INTEGER NOT NULL,
        labels     BLOB NOT NULL
    ) WITHOUT ROWID;
    """,
    """
    CREATE TABLE exits (
        id         TEXT PRIMARY KEY,
        code       INTEGER NOT NULL,
        removed_ns INTEGER NOT NULL
    ) WITHOUT ROWID;
    """,
    """
    CREATE TABLE networks (
        id         TEXT PRIMARY KEY,
        name       TEXT NOT NULL UNIQUE,
        created_ns INTEGER NOT NULL,
        document   BLOB NOT NULL
    ) WITHOUT ROWID;
    """,
    "ALTER TABLE volumes ADD COLUMN options BLOB NOT NULL DEFAULT X'7B7D'",
    "ALTER TABLE exits ADD COLUMN name TEXT NOT NULL DEFAULT ''; ALTER TABLE exits ADD COLUMN record BLOB",
    """
    CREATE TABLE secrets (
        id         TEXT PRIMARY KEY,
        name       TEXT NOT NULL UNIQUE,
        created_ns INTEGER NOT NULL,
        updated_ns INTEGER NOT NULL,
        labels     BLOB NOT NULL
    ) WITHOUT ROWID;
    """,
)
