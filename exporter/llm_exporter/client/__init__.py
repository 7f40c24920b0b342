"""What runs in the user's process: meters calls, records them and ships them to a service."""
