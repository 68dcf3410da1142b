-- What assistants' servers are told, in order for each call. It stays until it is delivered or given
-- up; the body is JSON, and empty for a report that is written when the call's analysis is there.
CREATE TABLE webhook_deliveries (
    call_id TEXT NOT NULL REFERENCES calls (id) ON DELETE CASCADE,
    position BIGINT NOT NULL,
    id TEXT NOT NULL UNIQUE,
    assistant TEXT NOT NULL,
    type TEXT NOT NULL,
    body TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    outcome TEXT,
    created_at TEXT NOT NULL,
    next_at TEXT NOT NULL,
    PRIMARY KEY (call_id, position)
);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (state, next_at);

-- What the model says of a call that is over (JSON); empty while it is still to be asked.
CREATE TABLE call_analyses (
    call_id TEXT PRIMARY KEY REFERENCES calls (id) ON DELETE CASCADE,
    assistant TEXT NOT NULL,
    analysis TEXT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL
);
