"""Streaming sources."""
from mage_ai.streaming.base import BaseSource

__all__ = ["BaseSource"]
