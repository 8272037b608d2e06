"""Training: `settings` (YAML -> checked dataclasses), `evaluate` (losses and retrieval), `pretrain`."""
