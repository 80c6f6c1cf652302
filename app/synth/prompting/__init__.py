"""From prompt files to requests, and from replies to checked values."""
