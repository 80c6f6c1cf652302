"""Paid calls of teachers: accounts, the ledger, the caller, the rate limiter and the circuit breaker."""
