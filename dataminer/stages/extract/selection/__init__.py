"""Which frames are selected, and which packets must be decoded to get them."""
