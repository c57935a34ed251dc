"""Windows of the user: from arrays, MNE Epochs and files to grouped files."""
