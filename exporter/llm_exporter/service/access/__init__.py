"""Who may make which request: tokens and passwords, rights, and what a browser may send."""
