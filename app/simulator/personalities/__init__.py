"""What real servers do otherwise than the protocol says. Each personality is a wrapper around the correct reply."""
