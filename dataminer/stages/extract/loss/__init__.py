"""Which frames of a video are lost or damaged, from its packets and what came of them."""
