-- Evidence that releases were tried: who may attest it, and what they signed.
CREATE TABLE attestor (
  name       TEXT NOT NULL PRIMARY KEY,
  key_id     TEXT NOT NULL UNIQUE,
  public_key TEXT NOT NULL,
  added      BIGINT NOT NULL,
  removed    BIGINT NOT NULL
){{clustered}};

-- One row for each kind that an envelope speaks of, by the envelope's digest.
CREATE TABLE attestation (
  product  TEXT NOT NULL,
  version  TEXT NOT NULL,
  kind     TEXT NOT NULL,
  envelope TEXT NOT NULL,
  attestor TEXT NOT NULL REFERENCES attestor (name),
  result   TEXT NOT NULL CHECK (result IN ('PASSED', 'WARNED', 'FAILED')),
  at       BIGINT NOT NULL,
  PRIMARY KEY (product, version, kind, envelope, attestor),
  FOREIGN KEY (product, version) REFERENCES release (product, version)
){{clustered}};

CREATE TABLE attestation_envelope (
  digest TEXT NOT NULL PRIMARY KEY,
  body   BYTEA NOT NULL
){{clustered}};
