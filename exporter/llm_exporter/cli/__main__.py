"""`python -m llm_exporter.cli` is `llm-exporter`."""

from .main import main

main()
