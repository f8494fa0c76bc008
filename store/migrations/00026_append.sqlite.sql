-- Exposures in the order in which they were granted, found by a narrow index: those
-- of one batch are granted together and settle together, and share pages then. By
-- endpoint, each grant and each outcome of a large fleet rewrote a page of its own.
CREATE TABLE exposure_append (
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
  rung     BIGINT NOT NULL DEFAULT 0,
  measured BIGINT NOT NULL DEFAULT 0,
  PRIMARY KEY (rollout, endpoint)
);
INSERT INTO exposure_append (rollout, endpoint, state, granted, deadline, settled, reverted, domain, down, reason, detail, rung, measured)
  SELECT rollout, endpoint, state, granted, deadline, settled, reverted, domain, down, reason, detail, rung, measured
  FROM exposure ORDER BY granted, rollout, endpoint;
DROP TABLE exposure;
ALTER TABLE exposure_append RENAME TO exposure;
CREATE INDEX exposure_open ON exposure (deadline) WHERE state = 'open' AND NOT reverted;
CREATE INDEX exposure_domain ON exposure (domain) WHERE domain <> '';

-- "=" is the digest of the published release: shorter rows share more pages.
UPDATE installation SET digest = '=' WHERE digest = (SELECT w.digest FROM release w WHERE w.product = installation.product AND w.version = installation.version);
