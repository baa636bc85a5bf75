"""The networks that are trained: forward, backward, and the optimiser's step."""
