"""A cluster behind `ssh`: commands and files there, what travels there and back."""
