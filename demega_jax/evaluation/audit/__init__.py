"""What a score is worth: the same evaluation on inputs that hold no brain response."""
