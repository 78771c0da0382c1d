-- What keeps the tables small and quick: when each partition was last at its end, what the sweep looks at, and rows that are
-- updated by every batch. Docs in `actors`.

-- A record that was written before this has been handled. What is older by the inbox's retention cannot come again from this
-- partition; of one that stands still anything that was written since may.
alter table partition_lease add column caught_up_at timestamptz not null default now();
update partition_lease set caught_up_at = claimed_at;

-- The sweep deletes the oldest first, group by group, and does not look at what was ever dead: that is kept for longer.
create index inbox_sweep on inbox (consumer, processed_at) where not dead and generation = 1;
drop index inbox_age;
create index parked_age on parked (consumer, parked_at);

-- Few rows, each updated by every batch: room for the next versions beside it, so that an update touches no index, and a
-- vacuum as soon as there is something to remove.
alter table partition_lease set (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
alter table outbox_instance set (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Queues: as many rows deleted as inserted, few of them there at a time.
alter table outbox set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
alter table parked set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- Large tables that the sweep deletes from all the time: with the usual fifth of all rows, hundreds of millions would wait.
alter table inbox set (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 50000);
alter table offset_journal set (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 10000);
