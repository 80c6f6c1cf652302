"""Long jobs: the queue, leases, the one runner, the log, and the child process of a recipe."""
