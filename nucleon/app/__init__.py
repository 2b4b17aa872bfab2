"""The application: register, compose, answer. A WSGI callable."""

from nucleon.app.application import App
from nucleon.app.extras import Limits
from nucleon.app.group import Group
from nucleon.app.route import Route
from nucleon.app.scope import Scope
from nucleon.app.settings import Settings

__all__ = ["App", "Group", "Limits", "Route", "Scope", "Settings"]
