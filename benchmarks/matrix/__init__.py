"""The ways of protecting one training, held against each other: what each costs, what it leaves of the model,
what still leaks, and what malicious clients can do under it. Cost, accuracy and resilience are of digits, an
`mlp` and 20 clients; what leaks is of a training at which attacks succeed where nothing protects it, since
where they fail on the unprotected they tell nothing of a protection. What does not apply is left empty, and
is not 0.
"""
