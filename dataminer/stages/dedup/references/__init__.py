"""The pictures that ``dedup.exclude`` names: where they are, and what is known of them."""
