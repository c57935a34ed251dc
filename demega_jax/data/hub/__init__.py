"""Downloads from the hub: which files, their bytes, and a record of them."""
