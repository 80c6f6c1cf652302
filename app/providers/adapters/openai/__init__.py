"""The OpenAI protocol: chat completions, and the Files and Batches endpoints."""

from app.providers.adapters.openai.batches import OpenAIBatches
from app.providers.adapters.openai.client import OpenAITeacher
from app.providers.protocols import Adapter

ADAPTER = Adapter(open_teacher=OpenAITeacher, open_remote_batches=OpenAIBatches)
