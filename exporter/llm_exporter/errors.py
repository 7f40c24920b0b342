"""The errors that users of the package may catch."""

from __future__ import annotations


class LLMExporterError(Exception):
    """The base class of the errors that llm-exporter raises on purpose."""


class ConfigError(LLMExporterError, ValueError):
    """The configuration cannot be used. The message names the file, the line and the key."""
