-- The ladder of a call: its SIP messages, secrets masked. A gap between positions is what was
-- left out. Times are microseconds since 1970, because messages come closer than a millisecond.
CREATE TABLE sip_messages (
    call_id TEXT NOT NULL REFERENCES calls (id) ON DELETE CASCADE,
    sip_call_id TEXT NOT NULL,
    position BIGINT NOT NULL,
    at_us BIGINT NOT NULL,
    direction TEXT NOT NULL,
    transport TEXT NOT NULL,
    local_address TEXT NOT NULL,
    peer_address TEXT NOT NULL,
    message BLOB NOT NULL,
    PRIMARY KEY (call_id, sip_call_id, position)
);
