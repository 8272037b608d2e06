"""The model, self-contained: torch, numpy, transformers and itself.

Reading order: `config`, `features` (waveform -> log-mel), `bundled` (weights that ship with the
package), `musicnn` (log-mel -> feature vector), `coattention`, `modeling`, `pretraining` (heads),
`processor`. Nothing of ours outside this folder is imported here, so a saved checkpoint carries
this code and nothing else. What makes training fast is in `mulap.fast`.
"""
