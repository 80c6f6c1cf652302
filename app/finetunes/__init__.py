"""Fine-tunes of a base model on a snapshot."""
