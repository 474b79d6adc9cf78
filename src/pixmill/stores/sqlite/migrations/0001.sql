-- The embedded store. Times are seconds since the epoch (UTC); sizes are bytes and pixels.

CREATE TABLE requests (
  id          TEXT PRIMARY KEY,
  status      TEXT NOT NULL,
  filename    TEXT NOT NULL,
  digest      TEXT NOT NULL,
  options     TEXT NOT NULL,
  rules       TEXT NOT NULL,
  total_images     INTEGER NOT NULL,
  total_products   INTEGER NOT NULL,
  processed_images INTEGER NOT NULL DEFAULT 0,
  failed_images    INTEGER NOT NULL DEFAULT 0,
  error       TEXT,
  created_at  REAL NOT NULL,
  updated_at  REAL NOT NULL,
  finished_at REAL,
  last_image  INTEGER NOT NULL DEFAULT 0,  -- the highest sequence given out by the ingest
  open_shards INTEGER NOT NULL DEFAULT 0,
  turn        REAL NOT NULL DEFAULT 0      -- when work of this request was last claimed
) WITHOUT ROWID;

CREATE INDEX requests_by_turn ON requests (turn) WHERE status IN ('PENDING', 'PROCESSING');
CREATE INDEX requests_by_digest ON requests (digest, created_at);

CREATE TABLE work (
  request_id TEXT NOT NULL REFERENCES requests (id) ON DELETE CASCADE,
  kind       TEXT NOT NULL,                -- finish, ingest, shard
  number     INTEGER NOT NULL,
  first      INTEGER NOT NULL,
  last       INTEGER NOT NULL,
  state      TEXT NOT NULL DEFAULT 'open', -- open, leased, done
  alone      INTEGER NOT NULL DEFAULT 0,
  losses     INTEGER NOT NULL DEFAULT 0,
  trying     INTEGER,                      -- the image in hand, of work that is done alone
  token      TEXT,
  worker     TEXT,
  expires    REAL,
  PRIMARY KEY (request_id, kind, number)
) WITHOUT ROWID;

CREATE INDEX work_open ON work (request_id, kind, number) WHERE state = 'open';
CREATE INDEX work_leased ON work (expires) WHERE state = 'leased';

CREATE TABLE images (
  request_id TEXT NOT NULL REFERENCES requests (id) ON DELETE CASCADE,
  sequence   INTEGER NOT NULL,
  url        TEXT NOT NULL,
  url_digest BLOB NOT NULL,                -- 16 bytes: a short index, whatever the URL's length
  reference_count INTEGER NOT NULL,
  status     TEXT NOT NULL DEFAULT 'pending', -- pending, done, failed
  strikes    INTEGER NOT NULL DEFAULT 0,
  attempts   INTEGER,
  duration   REAL,
  code       TEXT,                         -- of a failure
  message    TEXT,
  key        TEXT,                         -- of a stored image, and what follows
  format     TEXT,
  bytes_in   INTEGER,
  bytes_out  INTEGER,
  width      INTEGER,
  height     INTEGER,
  source_format TEXT,
  source_width  INTEGER,
  source_height INTEGER,
  notices    TEXT,
  PRIMARY KEY (request_id, sequence)
) WITHOUT ROWID;

CREATE UNIQUE INDEX images_by_url ON images (request_id, url_digest);
CREATE INDEX images_failed ON images (request_id, sequence) WHERE status = 'failed';

CREATE TABLE products (
  request_id TEXT NOT NULL REFERENCES requests (id) ON DELETE CASCADE,
  sequence   INTEGER NOT NULL,
  serial_number TEXT NOT NULL,
  name       TEXT NOT NULL,
  written    TEXT NOT NULL,                -- JSON list: the image URLs as the CSV has them
  images     TEXT NOT NULL,                -- JSON list: the sequences of the images they name
  PRIMARY KEY (request_id, sequence)
) WITHOUT ROWID;
