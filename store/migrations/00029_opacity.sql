-- What active embargoes allow of fixes. embargoed_fix has one row for each fix of a
-- case with an active embargo, derived from the case's facts in the transaction that
-- adds one; opacity is the most open kind of target that the fix goes to before
-- until. rollout.withheld is the same for each rollout of the fix, as JSON, where the
-- grants are given. A tenant's opacity is how much of what its endpoints run can be
-- seen from outside.
CREATE TABLE embargoed_fix (
  product  TEXT   NOT NULL,
  version  TEXT   NOT NULL,
  case_id  BIGINT NOT NULL,
  until    BIGINT NOT NULL,
  opacity  TEXT   NOT NULL,
  PRIMARY KEY (product, version, case_id)
){{clustered}};
CREATE INDEX embargoed_fix_case ON embargoed_fix (case_id);

ALTER TABLE rollout ADD COLUMN withheld TEXT NOT NULL DEFAULT '';
ALTER TABLE tenant ADD COLUMN opacity TEXT NOT NULL DEFAULT 'customer-reachable';
