-- When the server last wrote, so that calls that it took down with it have an end.
CREATE TABLE heartbeat (
    id BIGINT PRIMARY KEY,
    beat_at TEXT NOT NULL
);
