"""The configuration file: its model, and loading it from YAML."""
