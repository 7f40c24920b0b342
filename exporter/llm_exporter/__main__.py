"""`python -m llm_exporter` is `llm-exporter`."""

from .cli.main import main

main(prog_name="llm-exporter")
