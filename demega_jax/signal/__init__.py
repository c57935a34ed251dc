"""Functions on windows: arrays in, arrays out."""
