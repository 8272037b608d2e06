def write_sentences(truth, seed, index): return ["music"]
