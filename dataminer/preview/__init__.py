"""What thresholds would keep and reject, drawn from what is stored."""
