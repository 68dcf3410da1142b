-- What the API makes: assistants, phone numbers, credentials and whatever else has an id. The
-- document is the object as it was given (JSON), unknown fields included; secrets are apart from
-- it, encrypted. What may be there once only (a number) is the unique key. Pinned objects are the
-- configuration's.
CREATE TABLE objects (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    document TEXT NOT NULL,
    secrets BLOB,
    unique_key TEXT,
    pinned BIGINT NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE UNIQUE INDEX objects_unique_key ON objects (kind, unique_key);
CREATE INDEX objects_created_at ON objects (kind, created_at, id);

-- Keys of the API: SHA-256 of each (they are random, so nothing slower is needed), and what it may.
CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    scopes TEXT NOT NULL,
    created_at TEXT NOT NULL,
    expires_at TEXT
);

-- What the API knows of a call beside what the telephone does: its name, its number, what else it
-- was made with (JSON), and when its row last changed.
ALTER TABLE calls ADD COLUMN name TEXT;
ALTER TABLE calls ADD COLUMN phone_number_id TEXT;
ALTER TABLE calls ADD COLUMN document TEXT;
ALTER TABLE calls ADD COLUMN updated_at TEXT;
UPDATE calls SET updated_at = COALESCE(ended_at, started_at, created_at);
CREATE INDEX calls_assistant ON calls (assistant, created_at, id);
CREATE INDEX calls_phone_number ON calls (phone_number_id, created_at, id);
CREATE INDEX calls_customer ON calls (customer_number, created_at, id);
