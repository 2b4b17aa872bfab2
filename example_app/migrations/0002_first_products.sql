insert into products (sku, name, price) values ('A-1', 'Anvil', 49.90), ('B-2', 'Bellows', 19.50);
