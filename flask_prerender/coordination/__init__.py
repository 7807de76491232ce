"""What processes tell each other about pages."""
