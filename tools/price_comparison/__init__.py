"""Compare our prices with the price table of LiteLLM."""
