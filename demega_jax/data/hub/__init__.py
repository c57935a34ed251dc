"""Files from the hub."""
