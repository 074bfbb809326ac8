"""One description of a run, and what of it each party is told, limits or draws."""
