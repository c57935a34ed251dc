"""Programs compiled for devices that are not here, and what they would cost there by a model."""
