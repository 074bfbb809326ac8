"""What an adversary gets out of what it saw: of one party, the recorded bytes, and what everybody knows.

An attack is a function (view, knowledge, budget, seed) -> guess (`fl.leakage.attack.Attack`). It knows
nothing of the data that it looks for, nor of the training; `fl.leakage.apart` runs it where it could not read
them either. What it guessed is scored elsewhere, with the truth (`fl.leakage.metrics`).
"""
