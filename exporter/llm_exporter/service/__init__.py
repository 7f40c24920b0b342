"""`llm-exporter serve`: many processes and short jobs in, one durable, truthful `/metrics` out."""
