"""What a worker does for a run: time slices, batches, and remote batches of teachers."""
