"""Where the service keeps calls: SQLite or Redis."""
