"""The DeMEGa network (Flax NNX)."""
