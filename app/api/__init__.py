"""What only HTTP needs and all slices share."""
