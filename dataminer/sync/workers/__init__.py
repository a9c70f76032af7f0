"""A pool of worker processes that survives the loss of one of them."""
