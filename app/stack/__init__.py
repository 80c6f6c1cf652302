"""The embedded stack: all processes that Seedbed needs on a bare machine, started and stopped together."""

from app.stack.state_dir import StackError, StateDir
from app.stack.supervisor import Stack

__all__ = ["Stack", "StackError", "StateDir"]
