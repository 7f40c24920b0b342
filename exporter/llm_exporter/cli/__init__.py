"""The `llm-exporter` command."""
