"""Video files: opening them within limits, and what their headers say."""
