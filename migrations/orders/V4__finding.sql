-- By whom, and in which conversation, an order was placed: to be found by either.
--
-- Not as indexes of `orders`: an order changes its state several times, which is in an index there, and each of those changes would be
-- written into every other index too. These rows are written once.

create table orders_by_customer (
    customer_id text not null,
    order_id    uuid not null,
    primary key (customer_id, order_id)
);

create table orders_by_correlation (
    correlation_id text not null,
    order_id       uuid not null,
    primary key (correlation_id, order_id)
);

-- By the database itself, so that orders placed by an older version, which runs beside a newer one during a deploy, are found too.
create function note_orders() returns trigger language plpgsql as $$
begin
    insert into orders_by_customer select customer_id, order_id from placed on conflict do nothing;
    insert into orders_by_correlation select correlation_id, order_id from placed on conflict do nothing;
    return null;
end
$$;

-- For as long as this takes nobody may write to orders: so it is all that is done here. The service notes those that were there before,
-- some at a time.
create trigger note_orders after insert on orders
    referencing new table as placed for each statement execute function note_orders();

-- How far that is.
create table orders_noted (
    one   boolean primary key default true check (one),
    after uuid    not null,
    done  boolean not null
);
insert into orders_noted (after, done) select '00000000-0000-0000-0000-000000000000', not exists (select from orders);
