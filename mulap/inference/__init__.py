"""Using a trained model.

Reading order: `encoder` (what every encoder does), `embedder` (our networks, from `backbones`),
`encoders` (a name -> an encoder; with `segments`, `mel` and `foreign`), `stream` (a file ->
log-mels), `pipeline` (many files on all cores; with `threads`), `embed` (into one table; on a
cluster by `cluster`), `tag` (to their tags), `frozen` (what makes the backbone fast), `hear` (our
backbones for others).
"""
