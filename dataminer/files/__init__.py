"""Files of a store: no link is followed, and what is written appears whole or not at all."""
