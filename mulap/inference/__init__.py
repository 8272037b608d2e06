"""Using a trained model.

Reading order: `backbones` (a name -> a backbone), `stream` (a file -> log-mels), `embedder` (a file
-> vectors), `encoders` (a name -> an encoder; with `segments`, `mel` and `foreign`), `embed` (many
files: `pipeline` and `threads`, or `cluster`, into a `store` of `parts`, `shards` and `tables`),
`frozen` (what makes the backbone fast), `tag` (a file -> named tags), `hear` (our backbones for
others).
"""
