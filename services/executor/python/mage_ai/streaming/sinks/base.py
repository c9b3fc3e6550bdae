"""Streaming sinks."""
from mage_ai.streaming.base import BaseSink

__all__ = ["BaseSink"]
