"""A sentence-transformers model computed by OpenVINO: on a CPU about twice as fast as torch in the same dtype."""

from collections.abc import Callable, Sequence

import numpy as np

_PRECISION = {"float32": "f32", "bfloat16": "bf16"}


def compile_encoder(model, dtype: str, batch_size: int) -> Callable[[Sequence[str]], np.ndarray]:
    """Compile a SentenceTransformer for the CPU.

    Args:
        model: A model in float32.
        dtype: float32 or bfloat16, the precision of the computation.
        batch_size: The number of texts in a batch.

    Returns:
        A function from texts to float32 vectors of shape (texts, dimensions), not normalised.
    """
    import openvino
    import torch

    class Embedding(torch.nn.Module):
        """The transformer and its pooling as one graph."""

        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, input_ids, attention_mask):
            features = {"input_ids": input_ids, "attention_mask": attention_mask}
            return self.model[1](self.model[0](features))["sentence_embedding"]

    example_tokens = model.tokenizer(["two texts", "of different lengths"], padding=True, return_tensors="pt")
    example = {name: example_tokens[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        converted = openvino.convert_model(Embedding(), example_input=example)
    properties = {"INFERENCE_PRECISION_HINT": _PRECISION[dtype]}
    run = openvino.Core().compile_model(converted, "CPU", properties)

    def encode(texts: Sequence[str]) -> np.ndarray:
        # Texts of similar length share a batch, since padding costs as much time as tokens.
        order = sorted(range(len(texts)), key=lambda n: -len(texts[n]))
        vectors = np.empty((len(texts), model.get_embedding_dimension()), dtype=np.float32)
        for start in range(0, len(order), batch_size):
            indexes = order[start : start + batch_size]
            tokens = model.tokenizer(
                [texts[n] for n in indexes],
                padding=True,
                truncation=True,
                max_length=model.max_seq_length,
                return_tensors="np",
            )
            vectors[indexes] = run({name: tokens[name] for name in ("input_ids", "attention_mask")})[0]
        return vectors

    return encode
