"""Federated averaging: what a client computes (local) and what the server keeps (fedavg)."""
