-- Answers that may be asked for again, and what was measured.
CREATE TABLE answers (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    key BLOB NOT NULL,
    token TEXT NOT NULL,
    route TEXT NOT NULL,
    at INTEGER NOT NULL,
    request BLOB NOT NULL,
    status INTEGER NOT NULL,
    headers TEXT NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (key, token, route)
) STRICT;
CREATE INDEX answers_by_age ON answers (at);

CREATE TABLE subjects (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    seen INTEGER NOT NULL,
    UNIQUE (kind, name)
) STRICT;

CREATE TABLE metrics (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- All values of one subject at one time, packed. Time comes first in the key, so that a sampling touches neighbouring pages.
CREATE TABLE samples (
    step INTEGER NOT NULL,
    at INTEGER NOT NULL,
    subject INTEGER NOT NULL,
    packed BLOB NOT NULL,
    PRIMARY KEY (step, at, subject)
) STRICT, WITHOUT ROWID;
