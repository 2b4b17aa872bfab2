create table products (
    sku text primary key,
    name text not null,
    price numeric(10, 2) not null check (price >= 0)
);

create table orders (
    id bigint generated always as identity primary key,
    customer text not null,
    status text not null default 'open' check (status in ('open', 'paid', 'closed')),
    note text,
    version integer not null default 1,
    created_at timestamptz not null default now()
);

create table order_lines (
    order_id bigint not null references orders on delete cascade,
    sku text not null references products,
    quantity integer not null check (quantity > 0),
    primary key (order_id, sku)
);

-- An order as clients see it: with its lines, in one row.
create view order_documents as
select orders.*, (
    select coalesce(json_agg(json_build_object('sku', sku, 'quantity', quantity) order by sku), '[]')
    from order_lines where order_id = orders.id
) as lines
from orders;
