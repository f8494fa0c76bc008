-- Applied policies: no row ever changes. A rollout keeps its policy's document
-- itself; policy_revision says which revision it was, 0 if it was none of these.
CREATE TABLE policy (
  name       TEXT NOT NULL,
  revision   BIGINT NOT NULL CHECK (revision > 0),
  document   TEXT NOT NULL,
  applied    BIGINT NOT NULL,
  applied_by TEXT NOT NULL,
  PRIMARY KEY (name, revision)
){{clustered}};
INSERT INTO counter (name, value) VALUES ('policy', 0);
ALTER TABLE rollout ADD COLUMN policy_revision BIGINT NOT NULL DEFAULT 0;
