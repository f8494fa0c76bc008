-- Endpoints with the same labels that failed first under a rollout with a budget:
-- exposed (treated) and as controls. seq is the order in which their labels first
-- failed; digest is the SHA-256 of the labels, which are too long for a key.
CREATE TABLE failed_labels (
  rollout BIGINT NOT NULL,
  digest  TEXT NOT NULL,
  seq     BIGINT NOT NULL,
  labels  TEXT NOT NULL,
  treated BIGINT NOT NULL,
  control BIGINT NOT NULL,
  PRIMARY KEY (rollout, digest),
  UNIQUE (rollout, seq)
);

-- Who asked to take a halted segment in again, and which, and waits for a second
-- operator; small is Pace.Small.
ALTER TABLE rollout ADD COLUMN lift_asked_by TEXT NOT NULL DEFAULT '';
ALTER TABLE rollout ADD COLUMN lift_asked_of TEXT NOT NULL DEFAULT '';
ALTER TABLE rollout ADD COLUMN small BOOLEAN NOT NULL DEFAULT FALSE;
