"""The model, self-contained: torch, numpy, transformers and itself.

Reading order: `config`, `features` (waveform -> log-mel), `musicnn` (log-mel -> feature vector),
`timbral` (its front end, made fast), `coattention`, `modeling`, `processor`. Nothing of ours outside
this folder is imported here, so a saved checkpoint can carry its own code.
"""
