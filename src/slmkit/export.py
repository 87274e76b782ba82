"""A model into a file of another format."""
