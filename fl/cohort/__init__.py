"""Who holds what, who takes part, over which links."""
