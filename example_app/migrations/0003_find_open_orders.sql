-- nucleon: no-transaction
-- For close_stale_orders. Built while orders are written, which a transaction would keep out.
create index concurrently if not exists orders_open on orders (created_at) where status = 'open';
