-- The last record that was finished: if another one is found at its offset, the topic was made anew or Kafka lost data and
-- grew past the place since. Null after a reset, and until the first batch. Docs in `actors`.
alter table partition_lease
    add column last_offset       bigint,
    add column last_timestamp_ms bigint;
