-- Orders that are ended before they are delivered, and orders that wait for a dead letter.
alter table orders add column cancelled text;  -- why it is not wanted any more: a fact like the others
alter table orders add column stalled jsonb;   -- which dead letter keeps it from going on

-- Nearly all rows have none, and cost nothing here.
create index orders_stalled on orders (order_id) where stalled is not null;
