"""Using a trained model: `embed` (audio -> vectors), `tag` (audio -> named tags)."""
