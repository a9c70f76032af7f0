"""What is measured on a frame."""
