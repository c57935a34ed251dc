"""Stacking: a model that learns to combine the logits of base models (Wolpert, 1992, Neural Networks 5, 241-259)."""
