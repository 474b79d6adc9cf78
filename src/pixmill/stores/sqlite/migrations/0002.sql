-- The HTTP service: owners and API keys, idempotency keys, cancelled and deleted requests.

ALTER TABLE requests ADD COLUMN owner TEXT NOT NULL DEFAULT '';

-- A deleted request has the status DELETED until its purge is over: nobody sees it any more, and
-- of all its work only the purge is left.
DROP INDEX requests_by_turn;
CREATE INDEX requests_in_turn ON requests (turn, created_at)
  WHERE status IN ('PENDING', 'PROCESSING', 'DELETED');
CREATE INDEX requests_ended ON requests (status, processed_images, failed_images)
  WHERE status IN ('COMPLETED', 'FAILED', 'CANCELLED');
CREATE INDEX requests_by_end ON requests (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX requests_by_owner ON requests (owner, created_at, id);
CREATE INDEX requests_by_owner_and_status ON requests (owner, status, created_at, id);

-- When work was offered; a purge, from when on it may be claimed.
ALTER TABLE work ADD COLUMN due REAL NOT NULL DEFAULT 0;
UPDATE work SET due = (SELECT updated_at FROM requests WHERE id = work.request_id);

CREATE TABLE once (
  owner       TEXT NOT NULL,
  key         TEXT NOT NULL,               -- the caller's Idempotency-Key
  fingerprint TEXT NOT NULL,
  accepted    TEXT NOT NULL,               -- JSON: what was answered
  request_id  TEXT NOT NULL REFERENCES requests (id) ON DELETE CASCADE,
  created_at  REAL NOT NULL,
  PRIMARY KEY (owner, key)
) WITHOUT ROWID;

CREATE INDEX once_by_age ON once (created_at);
CREATE INDEX once_by_request ON once (request_id);

CREATE TABLE keys (
  id         TEXT PRIMARY KEY,
  name       TEXT NOT NULL,
  scopes     TEXT NOT NULL,                -- separated by spaces
  digest     TEXT NOT NULL,
  created_at REAL NOT NULL,
  revoked_at REAL
) WITHOUT ROWID;
