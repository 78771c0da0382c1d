-- Chains by a hash of the key, and intents of more than one record. Docs in `actors`.

-- An entry of a B-tree holds 2,704 bytes, a record's key may have a megabyte: chains are found by its hash, and the key is
-- compared beside it. A version that asks by the key alone finds its lane by the same index.
create index parked_chain on parked (consumer, topic, partition, sha256(key), id);
drop index parked_lane;

-- After an unclean end records are tried a few at a time: with intent_offset or intent_parked they name all of them.
alter table partition_lease
    add column intent_until bigint,    -- the offset behind the last one; null or below: intent_offset alone
    add column intent_rows  bigint[];  -- all rows of parked, intent_parked the first; null or without it: that one alone
