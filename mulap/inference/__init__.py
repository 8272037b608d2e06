"""Using a trained model.

Reading order: `backbones` (a name -> a backbone), `stream` (a file -> log-mels), `embedder` (a file
-> vectors), `embed` (many files, with `store` and `tables`), `tag` (a file -> named tags).
"""
