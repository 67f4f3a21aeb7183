-- A store of format 1, as a build of that format wrote it. Never to be changed.
-- What the registry is made of.
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE objects (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    revision INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    disabled TEXT,
    UNIQUE (kind, name)
) STRICT;

CREATE TABLE overrides (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    revision INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    author TEXT NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT;

CREATE TABLE versions (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    author TEXT NOT NULL,
    summary TEXT NOT NULL,
    state TEXT NOT NULL
) STRICT;

CREATE TABLE sealed (
    id TEXT PRIMARY KEY,
    owner_kind TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    field TEXT NOT NULL,
    key_id TEXT NOT NULL,
    sealed BLOB NOT NULL,
    last4 TEXT,
    fingerprint TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (owner_kind, owner_id, field)
) STRICT;
CREATE INDEX sealed_by_key ON sealed (key_id);

INSERT INTO meta VALUES ('revision', '7');
INSERT INTO objects VALUES ('backend_1', 'backend', 'eu-1', '{"name":"eu-1","url":"http://10.0.0.4:8000"}', 6, 1700000000000, 1700000000001, NULL);
INSERT INTO overrides VALUES ('model', 'mistral-7b', '{"region":"eu"}', 7, 1700000000002, 'ops');
INSERT INTO versions VALUES (1, 1700000000000, 'ops', 'start', '{}'), (2, 1700000000001, 'ops', 'add eu-1', '{}');
INSERT INTO sealed VALUES ('se_1', 'backend', 'backend_1', 'api_key', '0123456789abcdef', x'0100', 'cdef', 'fedcba9876543210', 1700000000001);
PRAGMA application_id = 0x34626179;
PRAGMA user_version = 1;
