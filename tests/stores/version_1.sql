-- A store as the first version of its schema had it, with a request at work and one that ended.

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

INSERT INTO requests VALUES
  ('req_done', 'COMPLETED', 'old.csv', 'digest 1',
   '{"quality": 61}', '{"serial_col": null, "name_col": null, "url_cols": ["Photo"], "encoding": null, "delimiter": ";", "url_separator": null, "skip_invalid_rows": false, "neutralise_formulas": true, "local_folder": null}',
   2, 1, 1, 1, NULL, 1790000000.0, 1790000009.5, 1790000009.5, 2, 0, 1790000008.0),
  ('req_at_work', 'PROCESSING', 'new.csv', 'digest 2',
   '{}', '{"serial_col": null, "name_col": null, "url_cols": [], "encoding": null, "delimiter": null, "url_separator": null, "skip_invalid_rows": false, "neutralise_formulas": true, "local_folder": null}',
   1, 1, 0, 0, NULL, 1790000020.0, 1790000021.0, NULL, 1, 1, 0);
INSERT INTO work (request_id, kind, number, first, last, state) VALUES
  ('req_done', 'ingest', 0, 0, 0, 'done'),
  ('req_done', 'shard', 1, 1, 2, 'done'),
  ('req_done', 'finish', 0, 0, 0, 'done'),
  ('req_at_work', 'ingest', 0, 0, 0, 'done'),
  ('req_at_work', 'shard', 1, 1, 1, 'open');
INSERT INTO images (request_id, sequence, url, url_digest, reference_count) VALUES
  ('req_done', 1, 'http://shop.example/1.jpg', X'01', 1),
  ('req_done', 2, 'http://shop.example/2.jpg', X'02', 1),
  ('req_at_work', 1, 'http://shop.example/3.jpg', X'01', 1);
UPDATE images SET status = 'done', attempts = 1, duration = 0.25, key = 'images/req_done/0000001.jpg',
  format = 'jpeg', bytes_in = 1000, bytes_out = 400, width = 30, height = 20, source_format = 'png',
  source_width = 300, source_height = 200, notices = 'damaged'
  WHERE request_id = 'req_done' AND sequence = 1;
UPDATE images SET status = 'failed', attempts = 3, duration = 0.5, code = 'http_error',
  message = 'It answered 404.' WHERE request_id = 'req_done' AND sequence = 2;
INSERT INTO products VALUES
  ('req_done', 1, 'S1', 'Product 1', '["http://shop.example/1.jpg", "http://shop.example/2.jpg"]', '[1, 2]'),
  ('req_at_work', 1, 'S2', 'Product 2', '["http://shop.example/3.jpg"]', '[1]');

PRAGMA user_version = 1;
