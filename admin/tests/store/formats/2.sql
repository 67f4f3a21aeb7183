-- A store of format 2, as a build of that format wrote it. Never to be changed.
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

-- Who may use the admin API, what they did, and what happened.
CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    expires INTEGER,
    last_used INTEGER,
    disabled INTEGER NOT NULL
) STRICT;

CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    role TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    outcome TEXT NOT NULL,
    request_id TEXT NOT NULL,
    detail TEXT NOT NULL,
    hash BLOB NOT NULL
) STRICT;
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit trail is append-only');
END;
CREATE TRIGGER audit_is_not_removed BEFORE DELETE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit trail is append-only');
END;

CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;

CREATE TABLE jobs (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    done INTEGER NOT NULL,
    total INTEGER NOT NULL,
    detail TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    actor TEXT NOT NULL
) STRICT;

INSERT INTO meta VALUES ('revision', '7');
INSERT INTO objects VALUES ('backend_1', 'backend', 'eu-1', '{"name":"eu-1","url":"http://10.0.0.4:8000"}', 6, 1700000000000, 1700000000001, NULL);
INSERT INTO overrides VALUES ('model', 'mistral-7b', '{"region":"eu"}', 7, 1700000000002, 'ops');
INSERT INTO versions VALUES (1, 1700000000000, 'ops', 'start', '{}'), (2, 1700000000001, 'ops', 'add eu-1', '{}');
INSERT INTO sealed VALUES ('se_1', 'backend', 'backend_1', 'api_key', '0123456789abcdef', x'0100', 'cdef', 'fedcba9876543210', 1700000000001);

INSERT INTO tokens VALUES ('to_1', 'root', 'admin', x'abababababababababababababababababababababababababababababababab', 1700000000000, 'start', NULL, NULL, 0);
INSERT INTO audit VALUES (1, 1700000000000, 'root', 'admin', 'create', 'backends/eu-1', 'ok', 'r-1', '{"weight":2}', x'013b541509adab2c57322e9824579c346f998411b33161909f2c2c418ad96ce5');
INSERT INTO audit VALUES (2, 1700000000001, 'root', 'admin', 'delete', 'backends/us-1', 'refused', 'r-2', 'null', x'37eed28952851d6ca0b5a606fabcb32e46775ac47720cd7d1265f3b949eadd8f');
INSERT INTO events VALUES (41, 1700000000001, 'backend-up', 'eu-1', '{}');
INSERT INTO jobs VALUES (5, 'jo_1', 'discover', 'done', 3, 3, '[]', 1700000000000, 1700000000001, 'root');
PRAGMA application_id = 0x34626179;
PRAGMA user_version = 2;
