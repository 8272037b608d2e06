"""The model, self-contained: torch, numpy, transformers and itself.

Reading order: `config`, `features` (waveform -> log-mel), `bundled` (weights that ship with the
package), `musicnn` (log-mel -> feature vector), `timbral` with `timbral_spectrum` and
`timbral_kernels` (its front end, trained fast), `coattention`, `modeling`, `pretraining` (heads),
`processor`. Nothing of ours outside this folder is imported here, so a saved checkpoint can carry
its own code.
"""
