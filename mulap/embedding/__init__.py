"""Many files -> vectors, on all cores or machines, equal audio once."""
