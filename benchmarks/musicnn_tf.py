"""The package musicnn 0.1.0 by Pons and Serra, in TensorFlow, as contestants.

Run by the Python of benchmarks/.venv, see `setup_musicnn.sh`; nothing of ours can be imported here.
"""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from musicnn import models  # pyright: ignore[reportMissingImports]
from musicnn.extractor import extractor  # pyright: ignore[reportMissingImports]

MODEL = "MTT_musicnn"
NUM_FRAMES, NUM_BINS, NUM_TAGS = 187, 96, 50


def embed(files: Sequence[str]) -> Callable[[], int]:
    """Make what calls the package's extractor on files; it returns the number of segments."""

    def run(some: Sequence[str] = files) -> int:
        # It builds its graph and reads its weights for each file.
        return sum(len(extractor(path, model=MODEL, extract_features=True)[0]) for path in some)

    run(files[:1])
    return run


def run_backbone(num_segments: int) -> Callable[[], int]:
    """Make what runs its network over log-mels, one segment a call as the package does."""
    tf.compat.v1.reset_default_graph()
    shape = [None, NUM_FRAMES, NUM_BINS]
    log_mel = tf.compat.v1.placeholder(tf.float32, shape)
    is_training = tf.compat.v1.placeholder(tf.bool)
    tensors = models.define_model(log_mel, is_training, MODEL, NUM_TAGS)
    session = tf.compat.v1.Session()
    session.run(tf.compat.v1.global_variables_initializer())
    inputs = np.random.default_rng(0).uniform(0, 3, (num_segments, NUM_FRAMES, NUM_BINS))

    def run(some: np.ndarray = inputs) -> int:
        for segment in some:
            session.run(tensors, {log_mel: segment[None], is_training: False})
        return len(some)

    run(inputs[:2])
    return run
