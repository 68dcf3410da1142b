-- Messages that callers left. The file is the message; the row is what is known of it.
CREATE TABLE voicemails (
    id TEXT PRIMARY KEY,
    mailbox TEXT NOT NULL,
    call_id TEXT NOT NULL,
    customer_number TEXT,
    customer_name TEXT,
    called TEXT NOT NULL,
    reason TEXT NOT NULL,
    state TEXT NOT NULL,
    created_at TEXT NOT NULL,
    duration_ms BIGINT NOT NULL,
    file TEXT NOT NULL,
    ended TEXT,
    transcription TEXT NOT NULL,
    transcript TEXT
);
CREATE INDEX voicemails_mailbox ON voicemails (mailbox, created_at, id);
CREATE INDEX voicemails_transcription ON voicemails (transcription);

-- The mailbox that took a call; who answered one of ours (JSON).
ALTER TABLE calls ADD COLUMN mailbox TEXT;
ALTER TABLE calls ADD COLUMN answered_by TEXT;
