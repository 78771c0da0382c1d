-- What the simulated payment provider remembers, as a real one does on servers of its own: payments asks it and never looks here.
create schema provider;

-- One row for each idempotency key of a charge. Without an amount it was voided before it was charged, and never will be.
create table provider.charges (
    key              text        collate "C" primary key,  -- charge:ORDER: listed in the order of the orders
    amount_cents     bigint      check (amount_cents >= 0),
    reference        text,
    charged_at       timestamptz,
    refund_reference text,
    refunded_at      timestamptz,
    check ((amount_cents is null) = (reference is null) and (amount_cents is null) = (charged_at is null)),
    check ((refund_reference is null) = (refunded_at is null)),
    check (refunded_at is null or charged_at is not null)
);

-- What was charged before there was a list.
insert into provider.charges (key, amount_cents, reference, charged_at, refund_reference, refunded_at)
select charge.provider_key, charge.amount_cents, charge.provider_reference, charge.at, refund.provider_reference, refund.at
from charges as charge left join charges as refund on refund.order_id = charge.order_id and refund.kind = 'refund'
where charge.kind = 'charge';
