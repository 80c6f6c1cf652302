"""The embedded stack: everything Seedbed needs, started and ended as one, on a bare machine."""

from app.stack.home import Home, StackError
from app.stack.supervisor import Stack

__all__ = ["Home", "Stack", "StackError"]
