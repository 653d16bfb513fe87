"""The drop-in for the ``papa`` module of Papa 1.0.6."""
