"""Wire readers: the bytes of a provider's response in, usage out. No SDK is imported."""
