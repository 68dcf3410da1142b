-- Portable between SQLite and PostgreSQL: text ids, RFC 3339 UTC times of fixed width (so that
-- they sort), milliseconds on the call's clock as BIGINT.
CREATE TABLE calls (
    id TEXT PRIMARY KEY,
    call_type TEXT NOT NULL,
    status TEXT NOT NULL,
    assistant TEXT NOT NULL,
    caller TEXT NOT NULL,
    called TEXT NOT NULL,
    peer TEXT NOT NULL,
    sip_call_id TEXT NOT NULL,
    created_at TEXT NOT NULL,
    started_at TEXT,
    ended_at TEXT,
    ended_reason TEXT,
    ended_by TEXT,
    greeting_ms BIGINT,
    codec TEXT,
    recording TEXT,
    digits TEXT NOT NULL DEFAULT ''
);
CREATE INDEX calls_created_at ON calls (created_at, id);
CREATE INDEX calls_status ON calls (status);

CREATE TABLE messages (
    call_id TEXT NOT NULL REFERENCES calls (id) ON DELETE CASCADE,
    position BIGINT NOT NULL,
    role TEXT NOT NULL,
    message TEXT NOT NULL,
    start_ms BIGINT NOT NULL,
    end_ms BIGINT NOT NULL,
    turn BIGINT NOT NULL,
    interrupted BIGINT NOT NULL,
    PRIMARY KEY (call_id, position)
);

CREATE TABLE turns (
    call_id TEXT NOT NULL REFERENCES calls (id) ON DELETE CASCADE,
    turn BIGINT NOT NULL,
    ledger TEXT NOT NULL,
    PRIMARY KEY (call_id, turn)
);
