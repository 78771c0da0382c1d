-- Dead letters and what the ledger is told travel in an outbox stream of their own, named GROUP/TOPIC/PARTITION!letters, so that
-- a dead-letter topic that refuses never holds events up. Docs in `actors`.
alter table partition_lease
    add column letter_seq bigint not null default 0;  -- last sequence number given to a row of that stream

-- The contents of dead letters that their topic takes no more than the beginning of. Kept as long as a letter may be put back,
-- and given back to the record then.
create table dead_letter_body (
    consumer  text        not null,
    letter_id uuid        not null,
    key       bytea,
    value     bytea,
    headers   bytea       not null,  -- the record's own
    kept_at   timestamptz not null,
    primary key (consumer, letter_id)
);
create index dead_letter_body_age on dead_letter_body (kept_at);
