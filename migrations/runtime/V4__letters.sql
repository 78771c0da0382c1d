-- Dead letters and what the ledger is told travel in an outbox stream of their own, named GROUP/TOPIC/PARTITION!letters, so that
-- a dead-letter topic that refuses never holds events up. Docs in `actors`.
alter table partition_lease
    add column letter_seq bigint not null default 0;  -- last sequence number given to a row of that stream
