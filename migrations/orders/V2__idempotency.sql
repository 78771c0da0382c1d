-- Requests that are sent again are answered as before: which order a client's key has placed, written with that order.

create table idempotency (
    subject     text        not null,   -- whose key it is; empty where nobody has to say who asks
    key         text        not null,
    body_sha256 bytea       not null check (octet_length(body_sha256) = 32),
    order_id    uuid        not null,
    created_at  timestamptz not null,
    primary key (subject, key)
);

-- What is old is looked for by its age, once a minute. A summary of blocks (BRIN) would do for a day: space that is used again mixes ages.
create index idempotency_created on idempotency (created_at);
