"""Runs: the requests of users, the state of a run, and in `worker` what generates its rows."""
