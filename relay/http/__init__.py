"""The HTTP site: health, metrics, API, and what plugins mount."""
