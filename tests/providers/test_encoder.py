"""The bundled encoder: its digest, its vectors, and what is said when it can't be used."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from app.providers import encoder
from tests.fakes import ScriptedServer, hash_encoder
from tests.waiting import HTTP_SECONDS


@pytest.fixture(scope="module")
def encode():
    return encoder.load_encoder(encoder.EncoderSettings(encoder.BUNDLED)).encode


def test_vectors_are_float32_of_unit_length(encode):
    vectors = encode(["Name a fruit", "과일 하나를 대 보세요", "x" * 5000])
    assert (vectors.dtype, vectors.shape) == (np.float32, (3, 384))
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_paraphrases_are_nearer_than_other_requests(encode):
    same, again, other = encode(
        ["How do I bake sourdough bread?", "What is the way to bake sourdough bread?", "List three prime numbers."]
    )
    assert same @ again > 0.9 > 0.5 > same @ other


def test_weights_with_another_digest_are_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(encoder.EncoderError, match="reinstall"):
        encoder.verify_weights(tmp_path)


def test_a_model_that_is_not_there_is_said_in_words(tmp_path):
    with pytest.raises(encoder.EncoderError, match="could not be loaded"):
        encoder.load_encoder(encoder.EncoderSettings("mine", source=str(tmp_path / "nothing")))


TEXTS = [f"Explain how {thing} works in {n} words." for thing in ("a tide", "김치", "an engine") for n in range(4)]


@pytest.mark.parametrize(
    ("backend", "dtype", "close"),
    [
        ("torch", "float32", 1e-5),
        ("torch", "bfloat16", 1e-2),
        ("openvino", "float32", 1e-5),
        ("openvino", "bfloat16", 1e-2),
    ],
)
def test_backends_and_dtypes_agree_and_say_how_they_were_made(encode, backend, dtype, close):
    reference = encoder.load_encoder(encoder.EncoderSettings(encoder.BUNDLED, dtype="float32")).encode(TEXTS)
    loaded_encoder = encoder.load_encoder(encoder.EncoderSettings(encoder.BUNDLED, backend=backend, dtype=dtype))
    assert loaded_encoder.identity == {
        "name": encoder.BUNDLED,
        "backend": backend,
        "revision": f"sha256:{encoder.BUNDLED_SHA256}",
        "dtype": dtype,
        "pooling": "mean",
        "dimensions": 384,
    }
    vectors = loaded_encoder.encode(TEXTS)
    assert vectors.dtype == np.float32 and loaded_encoder.encode([]).shape == (0, 384)
    assert (1 - (vectors * reference).sum(axis=1)).max() < close


def test_texts_are_padded_to_few_widths_which_changes_nothing():
    loaded_encoder = encoder.load_encoder(encoder.EncoderSettings(encoder.BUNDLED, dtype="float32"))
    lengths = range(1, 300, 13)
    together = loaded_encoder.encode([" ".join(["tide"] * n) for n in lengths])
    unpadded = encoder.load_encoder(encoder.EncoderSettings(encoder.BUNDLED, dtype="float32"), width=1)
    for n, vector in zip(lengths, together, strict=True):
        alone = unpadded.encode([" ".join(["tide"] * n)])[0]
        assert 1 - float(alone @ vector) < 1e-5


def test_batches_come_in_few_heights_and_each_text_gets_its_own_vector():
    loaded_encoder = encoder.load_encoder(encoder.EncoderSettings(encoder.BUNDLED, dtype="float32"))
    texts = [f"{'a very ' * (n % 5)}short text about the number {n}" for n in range(40)]
    alone = np.concatenate([loaded_encoder.encode([text]) for text in texts])
    for count in (1, 2, 7, 31, 32, 33, 40):
        assert (1 - (loaded_encoder.encode(texts[:count]) * alone[:count]).sum(axis=1)).max() < 1e-5
    heights = {count: encoder._padded_count(count) for count in range(200)}
    assert all(count <= height < count + 8 for count, height in heights.items())
    assert {height % encoder.BATCH_SIZE for height in heights.values()} == {0, 1, 4, 8, 16, 24}


def test_padding_goes_to_the_next_width_and_never_beyond_what_the_model_takes():
    model = SimpleNamespace(max_seq_length=40, tokenizer=SimpleNamespace(pad_token_id=7))

    def widths(tokens: int) -> dict:
        ones = torch.ones(2, tokens, dtype=torch.int64)
        return encoder._pad_to_multiple({"input_ids": ones, "attention_mask": ones, "prompt_length": 3}, model)

    found = widths(17)
    assert found["input_ids"].shape == found["attention_mask"].shape == (2, 32) and found["prompt_length"] == 3
    assert found["input_ids"][0].tolist() == [1] * 17 + [7] * 15
    assert found["attention_mask"].sum() == 34
    assert [widths(n)["input_ids"].shape[1] for n in (16, 33, 40)] == [16, 33, 40]


def endpoint(answer, dimensions=32, **more):
    server = ScriptedServer(answer).__enter__()
    settings = encoder.EncoderSettings(
        "remote", "endpoint", server.url, model="e-1", dimensions=dimensions, timeout_seconds=HTTP_SECONDS
    )
    return server, encoder.load_encoder(settings, **more)


def vectors_of(body, scale=3.0, order=1):
    rows = [
        {"object": "embedding", "index": n, "embedding": (scale * row).tolist()}
        for n, row in enumerate(hash_encoder(body["input"]))
    ]
    answer = {"object": "list", "model": "e-1", "data": rows[::order], "usage": {"prompt_tokens": 1, "total_tokens": 1}}
    return 200, {}, json.dumps(answer).encode()


def test_an_endpoint_is_asked_in_parts_and_its_vectors_come_out_in_order_and_of_unit_length():
    server, loaded_encoder = endpoint(lambda body: vectors_of(body, order=-1))
    texts = [str(n) for n in range(300)]
    assert np.allclose(loaded_encoder.encode(texts), hash_encoder(texts), atol=1e-6)
    assert [len(body["input"]) for body in server.bodies] == [128, 128, 44]
    assert (loaded_encoder.identity["revision"], loaded_encoder.identity["dimensions"]) == ("e-1", 32)
    assert loaded_encoder.encode([]).shape == (0, 32)


def test_an_endpoint_that_is_busy_is_asked_again_and_one_that_refuses_is_not():
    answers, delays = iter([(429, {}, b"{}"), (503, {}, b"{}")]), []
    server, loaded_encoder = endpoint(lambda body: next(answers, None) or vectors_of(body), sleep=delays.append)
    assert loaded_encoder.encode(["a"]).shape == (1, 32) and len(server.bodies) == 3
    assert delays == [1, 2]
    server, loaded_encoder = endpoint(lambda body: (401, {}, b'{"error": {"message": "no such key"}}'))
    with pytest.raises(encoder.EncoderError, match="no such key"):
        loaded_encoder.encode(["a"])
    assert len(server.bodies) == 1


def test_an_endpoint_that_gives_vectors_of_another_size_is_refused():
    _, loaded_encoder = endpoint(vectors_of, dimensions=99)
    with pytest.raises(encoder.EncoderError, match="configured are 99"):
        loaded_encoder.encode(["a"])
