"""The provider's side of the wire formats: parsing requests, and writing responses, streams and errors.

Each class names the API reference that it follows.
"""
