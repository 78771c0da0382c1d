-- What the whole protocol needs: unclean ends, resets, pauses, and the outcome of every offset. Docs in `actors`.

-- The invariant is now
--   next_offset - first_offset + replayed = applied + duplicate + parked + dead + ignored + moved + gaps + lost
alter table partition_lease
    add column replayed      bigint  not null default 0,      -- offsets that resets went back over: they count again
    add column paused        boolean not null default false,  -- by an operator, until an operator resumes it
    add column intent_offset bigint,                          -- after an unclean end: the record being tried alone
    add column intent_parked bigint,                          -- or the row of parked
    add column deaths        integer not null default 0;      -- processes that ended while that one was tried

alter table parked
    add column paused_ms bigint not null default 0,           -- time its lane could not work: no part of its deadline
    add column given_up  text;                                -- why an operator gave it up

-- What became of each offset when its batch was committed: runs of one letter and a count, in order, such as
-- a480d1a19. a applied, u duplicate, p parked, d dead, i ignored, m moved, g gap. One row a batch.
create table offset_journal (
    consumer    text        not null,
    topic       text        not null,
    partition   integer     not null,
    from_offset bigint      not null,
    next_offset bigint      not null,
    outcomes    text        not null,
    at          timestamptz not null,
    -- A partition that was reset goes over the same offsets again.
    epoch       bigint      not null,
    primary key (consumer, topic, partition, from_offset, epoch)
);
create index offset_journal_age on offset_journal (at);
create index inbox_dead_age on inbox (processed_at) where dead or generation > 1;
