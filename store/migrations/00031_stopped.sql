-- When the engine stopped a rollout last, whole, by halting it or ordering it back, and
-- its reasons as JSON. People who resume it later change neither.
ALTER TABLE rollout ADD COLUMN stopped BIGINT NOT NULL DEFAULT 0;
ALTER TABLE rollout ADD COLUMN stopped_why TEXT NOT NULL DEFAULT '[]';
