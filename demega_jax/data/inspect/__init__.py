"""What is in a file, a shard folder or a recording tree, and whether it is sound."""
