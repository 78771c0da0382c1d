-- Where the payment of each order stands.
create table payments (
    order_id           uuid        primary key,
    state              text        not null check (state in ('closed', 'charged', 'failed', 'refunded')),
    order_version      bigint      not null,  -- the highest version of the order that was seen
    amount_cents       bigint,                -- what was charged
    provider_reference text,                  -- the provider's name for the charge
    failure_reason     text,                  -- why there is no charge
    updated_at         timestamptz not null,
    check ((state in ('charged', 'refunded')) = (amount_cents is not null and provider_reference is not null)),
    check ((state = 'failed') = (failure_reason is not null))
);

-- The ledger: rows are only ever added. Its keys are the last guard against charging or refunding an order twice.
-- No foreign key to payments: both are written by one transaction, and a lookup for every row would buy nothing.
create table charges (
    order_id           uuid        not null,
    kind               text        not null check (kind in ('charge', 'refund')),
    amount_cents       bigint      not null check (amount_cents >= 0),
    provider_key       text        not null unique,  -- the idempotency key the provider was asked with
    provider_reference text        not null,
    at                 timestamptz not null,
    primary key (order_id, kind)
);
