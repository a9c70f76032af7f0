"""Which frames are wanted, and which packets must be decoded to get them."""
