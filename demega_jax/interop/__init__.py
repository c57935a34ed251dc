"""Models in other systems' files: checkpoints of the published PyTorch system."""
