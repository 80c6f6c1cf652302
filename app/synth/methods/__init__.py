"""The methods: each makes rows of a batch from its material, by calls to a teacher or without any."""
