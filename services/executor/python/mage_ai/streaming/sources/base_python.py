"""Streaming sources written in blocks."""
from mage_ai.streaming.base import BasePythonSource

__all__ = ["BasePythonSource"]
