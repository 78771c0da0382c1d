-- Who can deliver, and how many orders each has in hand. `load` counts the assignments that are not released.
create table couriers (
    id       integer primary key,
    name     text    not null unique,
    capacity integer not null check (capacity >= 0),
    load     integer not null default 0 check (load >= 0),
    check (load <= capacity)
);

-- One row for each order that was assigned, could not be, or was over before a courier was needed.
create table assignments (
    order_id      uuid        primary key,
    courier_id    integer     references couriers,  -- null when nobody was ever assigned
    state         text        not null check (state in ('assigned', 'released', 'failed', 'closed')),
    order_version bigint      not null,             -- the highest version of the order that was seen
    assigned_at   timestamptz,
    released_at   timestamptz,                      -- null while the courier has the order in hand
    check ((state = 'assigned') = (released_at is null)),
    check ((state in ('assigned', 'released')) = (courier_id is not null and assigned_at is not null))
);
create index assignments_active on assignments (courier_id) where released_at is null;

-- A fleet for trying the platform: 10,000 orders in hand at a time.
insert into couriers (id, name, capacity)
select n, 'courier-' || lpad(n::text, 2, '0'), 250 from generate_series(1, 40) as n;
