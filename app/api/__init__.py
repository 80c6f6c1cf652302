"""The parts of the HTTP layer that all slices share."""
