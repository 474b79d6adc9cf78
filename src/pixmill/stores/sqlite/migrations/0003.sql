-- Webhooks: who is told of a request, what is on its way, what was received, and the secrets.

ALTER TABLE requests ADD COLUMN webhook_url TEXT;
-- Separated by spaces.
ALTER TABLE requests ADD COLUMN webhook_events TEXT NOT NULL DEFAULT '';

CREATE TABLE deliveries (
  number     INTEGER PRIMARY KEY,          -- in the order in which they were made
  id         TEXT NOT NULL UNIQUE,         -- the webhook-id
  request_id TEXT NOT NULL REFERENCES requests (id) ON DELETE CASCADE,
  event      TEXT NOT NULL,
  url        TEXT NOT NULL,
  endpoint   TEXT NOT NULL,                -- scheme, host and port of the URL
  created_at REAL NOT NULL,
  status     TEXT NOT NULL,                -- of the request, when it was made; the counts as well
  processed_images INTEGER NOT NULL,
  failed_images    INTEGER NOT NULL,
  state      TEXT NOT NULL DEFAULT 'pending',  -- pending, delivered, failed
  attempts   INTEGER NOT NULL DEFAULT 0,
  earlier    INTEGER NOT NULL DEFAULT 0,   -- attempts before its last replay
  next_at    REAL,                         -- when the next attempt is due
  due        REAL,                         -- the same; while somebody holds it, until when
  body       TEXT,                         -- what is sent, once it was written
  token      TEXT,                         -- of who holds it
  worker     TEXT,
  replay     INTEGER NOT NULL DEFAULT 0    -- 1: once it is not held any more, it is due again
);

CREATE INDEX deliveries_by_request ON deliveries (request_id, number);
CREATE INDEX deliveries_due ON deliveries (endpoint, due, number) WHERE state = 'pending';
CREATE INDEX deliveries_held ON deliveries (worker) WHERE token IS NOT NULL;

-- The endpoints that something is on its way to, and when the first of it is due: so that however
-- much waits for a busy one, the next delivery to another is found at once.
CREATE TABLE endpoints (
  endpoint TEXT PRIMARY KEY,
  due      REAL NOT NULL
) WITHOUT ROWID;

CREATE INDEX endpoints_due ON endpoints (due);

CREATE TABLE attempts (
  delivery_id  TEXT NOT NULL REFERENCES deliveries (id) ON DELETE CASCADE,
  number       INTEGER NOT NULL,
  at           REAL NOT NULL,
  duration     REAL NOT NULL,
  http_status  INTEGER,
  error        TEXT,
  retry_after  REAL,
  PRIMARY KEY (delivery_id, number)
) WITHOUT ROWID;

CREATE TABLE receipts (
  webhook_id  TEXT PRIMARY KEY,
  event       TEXT NOT NULL,
  request_id  TEXT NOT NULL,               -- the sender's, which need not be one of ours
  received_at REAL NOT NULL,
  body        TEXT NOT NULL
) WITHOUT ROWID;

CREATE INDEX receipts_by_age ON receipts (received_at, webhook_id);

CREATE TABLE webhook_secrets (
  number  INTEGER PRIMARY KEY,             -- the highest is the newest
  secret  BLOB NOT NULL,
  ends_at REAL                             -- until when it is live; NULL: until there is a newer one
);
