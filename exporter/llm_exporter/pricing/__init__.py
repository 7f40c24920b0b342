"""Who the provider is and what a call costs."""
