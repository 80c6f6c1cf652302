"""Anthropic's protocol: the Messages API."""

from app.providers.adapter import Adapter
from app.providers.adapters.anthropic.client import AnthropicTeacher

ADAPTER = Adapter(open_teacher=AnthropicTeacher)
