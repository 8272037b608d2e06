"""Training: from settings and a manifest to a checkpoint.

Reading order: `settings` (YAML -> checked dataclasses), `initial` (the model that training starts
from), `evaluate` (losses, matching and retrieval), `progress` (what is shown), `pretrain`.
"""
