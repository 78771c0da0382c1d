-- Tables of the partition runtime. Every service's database has them; docs in `actors`.

-- Who owns a partition, and how far it is: next_offset is the authority, Kafka's committed offset is for lag monitors.
-- Invariant, checked before every commit:
--   next_offset - first_offset = applied + duplicate + parked + dead + ignored + moved + gaps + lost
create table partition_lease (
    consumer     text        not null,
    topic        text        not null,
    partition    integer     not null,
    epoch        bigint      not null,
    owner        text        not null,
    first_offset bigint      not null,
    next_offset  bigint      not null,
    outbox_seq   bigint      not null default 0,  -- last sequence number given to a row of this lane's outbox
    applied      bigint      not null default 0,
    duplicate    bigint      not null default 0,
    parked       bigint      not null default 0,  -- a current count: leaves when the record ends otherwise
    dead         bigint      not null default 0,
    ignored      bigint      not null default 0,
    moved        bigint      not null default 0,  -- requeue lanes: handed to the origin's parked
    gaps         bigint      not null default 0,  -- offsets that hold no record: transaction markers, compaction
    lost         bigint      not null default 0,  -- deleted by retention before they were read
    cluster_id   text        not null,
    clean        boolean     not null,            -- false from claim to drain: an unclean end shows
    claimed_at   timestamptz not null,
    primary key (consumer, topic, partition)
);

-- The final outcome of every event, authoritative for duplicates.
create table inbox (
    consumer     text        not null,
    event_id     uuid        not null,
    dead         boolean     not null,
    generation   integer     not null,
    payload_hash bigint      not null,
    processed_at timestamptz not null,
    primary key (consumer, event_id)
);
create index inbox_age on inbox (processed_at) where not dead;

-- Records waiting for their next attempt, or behind one of their key that is.
create table parked (
    id              bigint generated always as identity primary key,  -- order within a key's chain
    consumer        text        not null,
    topic           text        not null,  -- the origin lane: where it runs
    partition       integer     not null,
    "offset"        bigint      not null,
    key             bytea,
    value           bytea,
    headers         bytea       not null,
    timestamp_ms    bigint      not null,
    event_id        uuid,
    generation      integer     not null,
    requeued_from   uuid,                  -- the dead letter it was put back from; null for the lane's own
    attempts        integer     not null,
    crashes         integer     not null,
    due_at          timestamptz not null,
    first_failed_at timestamptz,
    error_code      text        not null,
    error           text        not null,
    parked_at       timestamptz not null
);
create index parked_lane on parked (consumer, topic, partition, key, id);
create index parked_due on parked (consumer, due_at);

-- Records to publish, written with the effect. A lane publishes its own in order of seq and deletes an acknowledged prefix.
create table outbox (
    lane       text        not null,
    seq        bigint      not null,
    topic      text        not null,
    key        bytea,
    value      bytea,
    headers    bytea       not null,
    created_at timestamptz not null,
    primary key (lane, seq)
);

-- Writers of outbox rows that own no partition: HTTP and timer instances of a process.
create table outbox_instance (
    lane       text        primary key,
    epoch      bigint      not null,
    expires_at timestamptz not null
);
