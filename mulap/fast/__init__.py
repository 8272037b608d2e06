"""The same numbers, sooner: what runs in a model's place, and a checkpoint does not carry.

To embed: `frozen` (the backbone in evaluation mode). To train: `front_end` (musicnn's front end,
fused), `timbral` (how), with `timbral_spectrum` and `timbral_kernels` (compiled loops, on a CPU) or
`timbral_chunks` (torch's operations, on a GPU); `sync_batch_norm` (BatchNorm over several
processes). For both: `threads` (blocks shared by threads, each with torch on one thread).
"""
