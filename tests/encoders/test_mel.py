"""The handcrafted baseline: what librosa and NumPy say of the same log-mel."""

import librosa
import numpy as np
from tiny import tone

from mulap.encoders.mel import NUM_MFCCS, mel_encoder, mel_statistics, mfccs
from mulap.model.features import MulapFeatureExtractor


def log_mels(seconds=7.0):
    extractor = MulapFeatureExtractor()
    return extractor.log_mel(extractor.segment(tone(0, seconds)))


def test_the_mfccs_are_librosas():
    log_mel = log_mels()
    expected = librosa.feature.mfcc(S=log_mel, n_mfcc=NUM_MFCCS)
    np.testing.assert_allclose(mfccs(log_mel), expected, rtol=1e-5, atol=1e-3)


def test_the_vector_holds_means_then_deviations_of_levels_then_differences():
    log_mel = log_mels()
    vector = mel_statistics(log_mel)[1].astype(np.float64)
    levels = log_mel[1].astype(np.float64)  # (96, N)
    assert vector.shape == (4 * (96 + 20),)
    np.testing.assert_allclose(vector[:96], levels.mean(1), rtol=1e-4)
    np.testing.assert_allclose(vector[116:212], np.diff(levels).mean(1), atol=1e-4)
    np.testing.assert_allclose(vector[232:328], levels.std(1), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(vector[348:444], np.diff(levels).std(1), rtol=1e-4, atol=1e-3)
    cepstrum = librosa.feature.mfcc(S=levels, n_mfcc=20)
    np.testing.assert_allclose(vector[96:116], cepstrum.mean(1), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(vector[328:348], cepstrum.std(1), rtol=1e-4, atol=1e-3)


def test_segments_are_cut_as_the_networks_are():
    encoder, waveform = mel_encoder(), tone(1, 10.0)
    segments = MulapFeatureExtractor().segment(waveform)
    rows = list(encoder.stream_rows(encoder.feature_extractor.stream_segments([waveform])))
    vectors = np.concatenate([vectors for _, vectors in rows])
    expected = mel_statistics(MulapFeatureExtractor().log_mel(segments))
    np.testing.assert_array_equal(vectors, expected)
    assert vectors.shape == (3, encoder.embedding_size)
    assert vectors.dtype == np.float32
    assert rows[0][0].tolist() == [0.0, 3.0, 6.0]


def test_silence_has_finite_statistics_and_no_deviation():
    silent = mel_statistics(MulapFeatureExtractor().log_mel(np.zeros((1, 48_000), np.float32)))
    assert np.isfinite(silent).all()
    np.testing.assert_allclose(silent[:, 232:], 0.0, atol=1e-3)
