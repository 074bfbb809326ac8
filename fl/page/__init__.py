"""A run to look at: what there is to show of one, and while it is under way."""
