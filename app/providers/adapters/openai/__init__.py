"""The OpenAI protocol: chat completions, and the Files and Batches endpoints."""

from app.providers.adapter import Adapter
from app.providers.adapters.openai.batches import OpenAIBatches
from app.providers.adapters.openai.client import OpenAITeacher
from app.providers.adapters.openai.models import context_tokens

ADAPTER = Adapter(open_teacher=OpenAITeacher, open_remote_batches=OpenAIBatches, context_tokens=context_tokens)
