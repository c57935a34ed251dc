"""Models from and for other libraries: PyTorch checkpoints, the Hugging Face hub, scikit-learn."""
