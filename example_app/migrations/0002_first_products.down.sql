delete from products where sku in ('A-1', 'B-2');
