-- Who has what: bills of materials, and which endpoints a case concerns.

-- A bill of materials of a release (product, version), or of what else an endpoint
-- has (endpoint; product and version are empty). A newer one takes its place.
CREATE TABLE sbom (
  product  TEXT   NOT NULL,
  version  TEXT   NOT NULL,
  endpoint BIGINT NOT NULL,
  id       BIGINT NOT NULL UNIQUE,
  digest   TEXT   NOT NULL,
  format   TEXT   NOT NULL,
  parts    BIGINT NOT NULL,
  nameless BIGINT NOT NULL,
  added    BIGINT NOT NULL,
  added_by TEXT   NOT NULL,
  PRIMARY KEY (product, version, endpoint)
){{clustered}};
CREATE INDEX sbom_endpoint ON sbom (endpoint) WHERE endpoint > 0;

CREATE TABLE sbom_document (
  digest TEXT  NOT NULL PRIMARY KEY,
  body   BYTEA NOT NULL
);

-- name_key is release.Name.Key: what ranges are looked up by.
CREATE TABLE sbom_component (
  sbom     BIGINT NOT NULL,
  seq      BIGINT NOT NULL,
  name     TEXT   NOT NULL,
  version  TEXT   NOT NULL,
  name_key TEXT   NOT NULL,
  PRIMARY KEY (sbom, seq)
){{clustered}};
CREATE INDEX sbom_component_key ON sbom_component (name_key, sbom);

-- One row for each interval in which a place was vulnerable (fleet.Interval):
-- ended is 0 while it is. joined is when a late joiner was found, 0 for those of
-- the first match. ranges is JSON.
CREATE TABLE affected_interval (
  case_id  BIGINT NOT NULL,
  endpoint BIGINT NOT NULL,
  product  TEXT   NOT NULL,
  name_key TEXT   NOT NULL,
  started  BIGINT NOT NULL,
  tenant   TEXT   NOT NULL,
  runs     TEXT   NOT NULL,
  version  TEXT   NOT NULL,
  ranges   TEXT   NOT NULL,
  unknown  TEXT   NOT NULL,
  basis    TEXT   NOT NULL,
  ended    BIGINT NOT NULL,
  how      TEXT   NOT NULL,
  joined   BIGINT NOT NULL,
  PRIMARY KEY (case_id, endpoint, product, name_key, started)
){{clustered}};
CREATE INDEX affected_interval_open ON affected_interval (case_id, product, endpoint) WHERE ended = 0;

-- Frozen answers. body is what hash is the SHA-256 of (fleet.Snapshot), gzipped.
CREATE TABLE affected_snapshot (
  case_id   BIGINT NOT NULL,
  n         BIGINT NOT NULL,
  at        BIGINT NOT NULL,
  hash      TEXT   NOT NULL,
  tenants   BIGINT NOT NULL,
  resources BIGINT NOT NULL,
  unknown   BIGINT NOT NULL,
  body      BYTEA  NOT NULL,
  PRIMARY KEY (case_id, n)
);
