"""Metrics of whole splits and what is printed and drawn of them."""
