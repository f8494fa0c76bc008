-- What a tenant asks of rollouts, as JSON; the revision rises with each change, 0
-- is never set. passed is, by tenant, the greatest share proven elsewhere that a
-- tenant's wait has seen under a rollout, as JSON.
ALTER TABLE tenant ADD COLUMN limits TEXT NOT NULL DEFAULT '';
ALTER TABLE tenant ADD COLUMN limits_revision BIGINT NOT NULL DEFAULT 0;
ALTER TABLE rollout ADD COLUMN passed TEXT NOT NULL DEFAULT '{}';
