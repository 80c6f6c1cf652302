"""A model of the operator's list that answers inside the worker, for people without a server."""

from app.providers.adapter import Adapter
from app.providers.adapters.local.teacher import LocalTeacher

# Nothing makes the model keep to a schema: the messages ask for JSON or for tagged text.
ADAPTER = Adapter(open_teacher=LocalTeacher, forms=("json_object", "tagged"))
