"""Training a backbone and a classifier together, on a task's labels."""
