"""An order service: the example of nucleon. `nucleon serve example_app` serves it.

service.py    the application and its resources
orders.py     what can be done with orders     | business functions: they know neither
products.py   products, read through a cache   | HTTP nor whether a request is running
chat.py       rooms that people talk in        |
stock.py      what is reserved for orders    |
notifications.py  what customers are told    |
events.py     what happened, on its way to RabbitMQ
web.py        the HTTP routes
messages.py   the consumers of RabbitMQ's queues
wsgi.py       the same application for another WSGI server
"""

from example_app import messages as messages
from example_app import web as web
from example_app.orders import close_stale_orders
from example_app.service import app

__all__ = ["app", "close_stale_orders", "messages", "web"]
