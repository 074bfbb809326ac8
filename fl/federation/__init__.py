"""A run: its server, its clients, and what goes between them."""
