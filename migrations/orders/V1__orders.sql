-- Orders, each with the facts that decide its state. The state is a function of the facts (docs in services/orders).

create table orders (
    order_id        uuid        primary key,    -- UUIDv7: sorts by time of creation
    state           text        not null check (state in ('PENDING', 'PAID', 'REFUNDING', 'COMPLETED', 'CANCELLED')),
    version         bigint      not null,       -- counts changes; events of the order carry it
    customer_id     text        not null,
    item            text        not null,
    quantity        integer     not null check (quantity > 0),
    amount_cents    bigint      not null check (amount_cents >= 0),
    payment_token   text,

    -- The facts; null until known.
    paid_cents      bigint,
    payment_failed  text,                       -- why
    courier_id      integer,                    -- assigned
    courier         text,
    delivery_failed text,                       -- why
    refunded_cents  bigint,

    reason          text,                       -- why it is REFUNDING or CANCELLED
    correlation_id  text        not null,
    -- Every event of the order, as this service came to know of them: appended to, never changed.
    timeline        jsonb       not null,
    created_at      timestamptz not null,
    updated_at      timestamptz not null
);

create index orders_state on orders (state, order_id);
