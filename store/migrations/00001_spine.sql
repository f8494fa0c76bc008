-- The spine: accounts, catalogue, repository, fleet, rollouts, ledger.
-- Times are microseconds since 1970, UTC. {{clustered}} is dialect.go's.

CREATE TABLE counter (
  name  TEXT NOT NULL PRIMARY KEY,
  value BIGINT NOT NULL
){{clustered}};
INSERT INTO counter (name, value) VALUES ('tenant', 0), ('rollout', 0), ('repository', 0);

CREATE TABLE tenant (
  id      BIGINT NOT NULL PRIMARY KEY,
  name    TEXT NOT NULL UNIQUE,
  paused  BOOLEAN NOT NULL,
  created BIGINT NOT NULL
){{clustered}};

CREATE TABLE token (
  name    TEXT NOT NULL PRIMARY KEY,
  hash    BYTEA NOT NULL UNIQUE,
  scope   TEXT NOT NULL CHECK (scope IN ('operator', 'vendor', 'tenant')),
  of_name TEXT NOT NULL,
  created BIGINT NOT NULL,
  revoked BOOLEAN NOT NULL
){{clustered}};

-- uses: endpoints that may still enrol; -1 is any number.
CREATE TABLE enrolment_token (
  hash    BYTEA NOT NULL PRIMARY KEY,
  tenant  BIGINT NOT NULL REFERENCES tenant (id),
  uses    BIGINT NOT NULL CHECK (uses >= -1),
  expires BIGINT NOT NULL
){{clustered}};

CREATE TABLE vendor (
  name      TEXT NOT NULL PRIMARY KEY,
  threshold BIGINT NOT NULL,
  keys      BIGINT NOT NULL,
  added     BIGINT NOT NULL
){{clustered}};

CREATE TABLE product (
  name        TEXT NOT NULL PRIMARY KEY,
  vendor      TEXT NOT NULL REFERENCES vendor (name),
  description TEXT NOT NULL,
  added       BIGINT NOT NULL
){{clustered}};

CREATE TABLE release (
  product   TEXT NOT NULL REFERENCES product (name),
  version   TEXT NOT NULL,
  digest    TEXT NOT NULL,
  length    BIGINT NOT NULL,
  floor     BIGINT NOT NULL,
  published BIGINT NOT NULL,
  listed    BOOLEAN NOT NULL,
  PRIMARY KEY (product, version)
){{clustered}};

-- An upload writes its chunks under an id of its own; the artifact's row,
-- written last, makes them one. Chunks without such a row are an upload under
-- way, or what is left of one.
CREATE TABLE artifact (
  digest TEXT NOT NULL PRIMARY KEY,
  id     BIGINT NOT NULL UNIQUE,
  length BIGINT NOT NULL,
  stored BIGINT NOT NULL
){{clustered}};

CREATE TABLE artifact_chunk (
  artifact BIGINT NOT NULL,
  seq      BIGINT NOT NULL,
  body     BYTEA NOT NULL,
  PRIMARY KEY (artifact, seq)
);

CREATE TABLE repository_file (
  path    TEXT NOT NULL PRIMARY KEY,
  version BIGINT NOT NULL,
  body    BYTEA NOT NULL
);

-- Labels, domain and secret never change after enrolment. What beacons say
-- often is in installation, so that this row is seldom written.
CREATE TABLE endpoint (
  id            BIGINT NOT NULL PRIMARY KEY,
  tenant        BIGINT NOT NULL REFERENCES tenant (id),
  secret        BYTEA NOT NULL UNIQUE,
  labels        TEXT NOT NULL,
  domain        TEXT NOT NULL,
  rss           BIGINT NOT NULL,
  sandbox       TEXT NOT NULL,
  name          TEXT NOT NULL,
  agent_version TEXT NOT NULL,
  enrolled      BIGINT NOT NULL
){{clustered}};
CREATE INDEX endpoint_tenant ON endpoint (tenant, id);

CREATE TABLE installation (
  product   TEXT NOT NULL,
  endpoint  BIGINT NOT NULL,
  version   TEXT NOT NULL,
  digest    TEXT NOT NULL,
  healthy   BOOLEAN NOT NULL,
  crashes   BIGINT NOT NULL,
  last_seen BIGINT NOT NULL,
  goodbye   BOOLEAN NOT NULL,
  PRIMARY KEY (product, endpoint)
){{clustered}};

-- state: rollout.State. reverted counts exposed endpoints known not to run the
-- release any more; segments counts this rollout's segment rows.
CREATE TABLE rollout (
  id               BIGINT NOT NULL PRIMARY KEY,
  request_id       TEXT UNIQUE,
  product          TEXT NOT NULL,
  version          TEXT NOT NULL,
  digest           TEXT NOT NULL,
  floor            BIGINT NOT NULL,
  policy           TEXT NOT NULL,
  seed             BYTEA NOT NULL,
  started          BIGINT NOT NULL,
  started_by       TEXT NOT NULL,
  state            TEXT NOT NULL,
  revision         BIGINT NOT NULL,
  rung             BIGINT NOT NULL,
  window_size      BIGINT NOT NULL,
  ceiling          BIGINT NOT NULL,
  turn             DOUBLE PRECISION NOT NULL,
  boost            DOUBLE PRECISION NOT NULL,
  quiet_until      BIGINT NOT NULL,
  accepted_harm    BIGINT NOT NULL,
  accepted_refusals BIGINT NOT NULL,
  held_by          TEXT NOT NULL,
  rung_since       BIGINT NOT NULL,
  ended            BIGINT NOT NULL,
  resume_asked_by  TEXT NOT NULL,
  preflight_failed BIGINT NOT NULL,
  reverted         BIGINT NOT NULL,
  segments         BIGINT NOT NULL,
  action           TEXT NOT NULL,
  reasons          TEXT NOT NULL,
  decided          BIGINT NOT NULL,
  FOREIGN KEY (product, version) REFERENCES release (product, version)
){{clustered}};
CREATE UNIQUE INDEX rollout_active ON rollout (product) WHERE state IN ('running', 'held');

-- Segment '' is the rollout's total. The second check keeps a lost or doubled
-- outcome from ever being committed.
CREATE TABLE rollout_count (
  rollout BIGINT NOT NULL,
  segment TEXT NOT NULL,
  exposed BIGINT NOT NULL,
  proven  BIGINT NOT NULL,
  harmed  BIGINT NOT NULL,
  silent  BIGINT NOT NULL,
  still_open BIGINT NOT NULL,
  PRIMARY KEY (rollout, segment),
  CHECK (proven >= 0 AND harmed >= 0 AND silent >= 0 AND still_open >= 0),
  CHECK (exposed = proven + harmed + silent + still_open)
){{clustered}};

-- domain is "tenant/failure domain", or empty.
CREATE TABLE exposure (
  rollout  BIGINT NOT NULL,
  endpoint BIGINT NOT NULL,
  state    TEXT NOT NULL CHECK (state IN ('open', 'proven', 'harmed', 'silent')),
  granted  BIGINT NOT NULL,
  deadline BIGINT NOT NULL,
  settled  BIGINT NOT NULL,
  reverted BOOLEAN NOT NULL,
  domain   TEXT NOT NULL,
  down     BIGINT NOT NULL,
  reason   TEXT NOT NULL,
  detail   TEXT NOT NULL,
  PRIMARY KEY (rollout, endpoint)
){{clustered}};
CREATE INDEX exposure_open ON exposure (deadline) WHERE state = 'open' AND NOT reverted;
CREATE INDEX exposure_domain ON exposure (domain) WHERE domain <> '';

-- Endpoints that refused the release before activation, each once.
CREATE TABLE preflight_failure (
  rollout  BIGINT NOT NULL,
  endpoint BIGINT NOT NULL,
  at       BIGINT NOT NULL,
  reason   TEXT NOT NULL,
  detail   TEXT NOT NULL,
  PRIMARY KEY (rollout, endpoint)
){{clustered}};

-- One row: the end of the chain, locked by whoever appends.
CREATE TABLE ledger_head (
  one  BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
  size BIGINT NOT NULL,
  last BYTEA NOT NULL
){{clustered}};
INSERT INTO ledger_head (one, size, last) VALUES (1, 0, '');

CREATE TABLE ledger_entry (
  seq     BIGINT NOT NULL PRIMARY KEY,
  at      BIGINT NOT NULL,
  kind    TEXT NOT NULL,
  subject TEXT NOT NULL,
  actor   TEXT NOT NULL,
  body    BYTEA NOT NULL,
  prev    BYTEA NOT NULL
){{clustered}};
CREATE INDEX ledger_subject ON ledger_entry (subject, seq);

-- Hashes of the Merkle tree (RFC 6962), numbered as tlog.StoredHashIndex does.
CREATE TABLE ledger_hash (
  id   BIGINT NOT NULL PRIMARY KEY,
  hash BYTEA NOT NULL
){{clustered}};

CREATE TABLE ledger_checkpoint (
  size BIGINT NOT NULL PRIMARY KEY,
  root BYTEA NOT NULL,
  note BYTEA NOT NULL,
  at   BIGINT NOT NULL
){{clustered}};
