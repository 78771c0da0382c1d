-- Orders that are ended before they are delivered, and orders that wait for a dead letter.
alter table orders add column cancelled  text;         -- why it is not wanted any more: a fact like the others
alter table orders add column stalled    jsonb;        -- which dead letter keeps it from going on
alter table orders add column owed_since timestamptz;  -- since when money may have to go back; null once it has, or there was none

-- Nearly all rows have none of them, and cost nothing here.
create index orders_stalled on orders (order_id) where stalled is not null;
create index orders_owed on orders (owed_since) where owed_since is not null;
