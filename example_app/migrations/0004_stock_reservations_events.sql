alter table products add column stock integer not null default 1000 check (stock >= 0);

-- One row for each order that was looked at: a message that comes twice finds it.
create table reservations (
    order_id bigint primary key references orders on delete cascade,
    outcome text not null check (outcome in ('reserved', 'short')),
    created_at timestamptz not null default now()
);

create table notifications (
    order_id bigint not null references orders on delete cascade,
    text text not null,
    created_at timestamptz not null default now(),
    primary key (order_id, text)
);

-- What is to be published: written in the transaction that it tells of, deleted when the broker has it.
create table events (
    id bigint generated always as identity primary key,
    routing_key text not null,
    body json not null
);
