"""The tasks that encoders are evaluated on. Scope: files, labels and scores, no encoders."""
