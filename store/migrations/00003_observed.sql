-- What a rollout with a harm budget must know. The numbers change in the
-- transaction of the outcome that they count.
-- cover is how many of the ceiling are chosen for coverage; knowledge is what the
-- last decision left for the next, as JSON; halted are the segments left out.
ALTER TABLE rollout ADD COLUMN cover BIGINT NOT NULL DEFAULT 0;
ALTER TABLE rollout ADD COLUMN knowledge TEXT NOT NULL DEFAULT '';
ALTER TABLE rollout ADD COLUMN halted TEXT NOT NULL DEFAULT '[]';

-- rung is the step of the window that the grant was part of; -1 is coverage.
ALTER TABLE exposure ADD COLUMN rung BIGINT NOT NULL DEFAULT 0;

-- One row for each cohort: a rung, -1 for those chosen for coverage, -2 for the
-- controls. size leaves out halted segments, and so do unsettled (open) and the
-- failures. recent is how many were granted lately, and by_age the failures by
-- each horizon, as JSON.
CREATE TABLE rollout_cohort (
  rollout   BIGINT NOT NULL,
  rung      BIGINT NOT NULL,
  granted   BIGINT NOT NULL,
  size      BIGINT NOT NULL,
  unsettled BIGINT NOT NULL,
  last      BIGINT NOT NULL,
  harmed    BIGINT NOT NULL,
  silent    BIGINT NOT NULL,
  recent    TEXT NOT NULL,
  by_age    TEXT NOT NULL,
  PRIMARY KEY (rollout, rung),
  CHECK (granted >= size AND size >= 0 AND unsettled >= 0 AND harmed >= 0 AND silent >= 0)
){{clustered}};

-- The first failure of an endpoint since a rollout's start, as a control and
-- again once it is exposed.
CREATE TABLE first_failure (
  rollout  BIGINT NOT NULL,
  endpoint BIGINT NOT NULL,
  exposed  BOOLEAN NOT NULL,
  at       BIGINT NOT NULL,
  rung     BIGINT NOT NULL,
  channel  TEXT NOT NULL CHECK (channel IN ('harmed', 'silent')),
  PRIMARY KEY (rollout, endpoint, exposed)
){{clustered}};
