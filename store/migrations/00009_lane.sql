-- The emergency lane: lane is the choice in force as JSON, lane_asked_by who wishes
-- to switch and waits for a second one, lane_asked that one's policy as JSON.
-- switches counts how often the rollout's policy was switched.
ALTER TABLE rollout ADD COLUMN lane TEXT NOT NULL DEFAULT '';
ALTER TABLE rollout ADD COLUMN lane_asked_by TEXT NOT NULL DEFAULT '';
ALTER TABLE rollout ADD COLUMN lane_asked TEXT NOT NULL DEFAULT '';
ALTER TABLE rollout ADD COLUMN switches BIGINT NOT NULL DEFAULT 0;
