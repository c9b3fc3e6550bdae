"""Streaming sinks written in blocks."""
from mage_ai.streaming.base import BasePythonSink

__all__ = ["BasePythonSink"]
