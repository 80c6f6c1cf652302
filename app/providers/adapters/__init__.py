"""One module for each protocol that a teacher may speak; its name is the name of the protocol."""
