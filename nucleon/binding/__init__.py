"""A signature studied once at start-up into a plan: request to arguments, value to response."""

from nucleon.binding.answers import Answer, WrongAnswer, acceptable_from, answer_from
from nucleon.binding.call import Call
from nucleon.binding.filling import Parameter, Plan
from nucleon.binding.plan import Handler, Known, Provider, Study, caller_names, place_of, provider_from
from nucleon.binding.readers import MISSING
from nucleon.binding.sources import Cookie, Form, Header, Named, Query

__all__ = [
    "MISSING", "Answer", "Call", "Cookie", "Form", "Handler", "Header", "Known", "Named", "Parameter", "Plan", "Provider", "Query", "Study",
    "WrongAnswer", "acceptable_from", "answer_from", "caller_names", "place_of", "provider_from",
]  # fmt: skip
