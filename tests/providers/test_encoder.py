"""The bundled encoder: its digest, its vectors, and what is said when it can't be used."""

import numpy as np
import pytest

from app.providers import encoder


@pytest.fixture(scope="module")
def encode():
    return encoder.load(encoder.BUNDLED)


def test_vectors_are_float32_of_unit_length(encode):
    vectors = encode(["Name a fruit", "과일 하나를 대 보세요", "x" * 5000])
    assert (vectors.dtype, vectors.shape) == (np.float32, (3, 384))
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_paraphrases_are_nearer_than_other_requests(encode):
    same, again, other = encode(
        ["How do I bake sourdough bread?", "What is the way to bake sourdough bread?", "List three prime numbers."]
    )
    assert same @ again > 0.9 > 0.5 > same @ other


def test_weights_with_another_digest_are_refused(monkeypatch):
    monkeypatch.setattr(encoder, "BUNDLED_SHA256", "0" * 64)
    with pytest.raises(encoder.EncoderError, match="reinstall"):
        encoder.load(encoder.BUNDLED)


def test_a_model_that_is_not_there_is_said_in_words(tmp_path):
    with pytest.raises(encoder.EncoderError, match="could not be loaded"):
        encoder.load(str(tmp_path / "nothing"))
