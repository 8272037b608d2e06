"""The same numbers, sooner: what training puts into a model, and a checkpoint does not carry.

Reading order: `front_end` (musicnn's front end, fused for training), `timbral` (how), with
`timbral_spectrum` and `timbral_kernels` (compiled loops, on a CPU) or `timbral_chunks` (torch's
operations, on a GPU); `sync_batch_norm` (BatchNorm over several processes); `threads` (blocks
shared by threads, each with torch on one thread).
"""
