"""Products: read often, changed seldom, so reads come from Redis."""

from decimal import Decimal
from typing import Annotated

from example_app.service import cache, db
from nucleon import Len, Model


class NewProduct(Model):
    name: Annotated[str, Len(1, 80)]
    price: Decimal  # never negative: the table checks it, and its refusal is a 422


class Product(Model):
    sku: str
    name: str
    price: Decimal


cached = cache.of(Product, "product:{sku}", ttl_seconds=60, stale_if_error_seconds=600)  # old ones stand in when the database is away


def find_product(sku: str) -> Product:
    """Return a product, from the cache when it is there; many misses at once ask the database once."""
    return cached.get_or(_load, sku=sku)


def put_product(sku: str, new: NewProduct) -> Product:
    """Store a product, new or changed."""
    product = db.upsert(Product, "products", new, sku=sku, key="sku")
    db.after_commit(cached.invalidation(sku=sku))
    return product


def _load(sku: str) -> Product:
    return db.one(Product, "select sku, name, price from products where sku = %s", sku)
