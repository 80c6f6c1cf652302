"""A sentence-transformers model computed by OpenVINO: on a CPU about twice as fast as torch in the same dtype."""

from collections.abc import Callable, Sequence

import numpy as np

_PRECISION = {"float32": "f32", "bfloat16": "bf16"}


def compiled(model, dtype: str, batch: int) -> Callable[[Sequence[str]], np.ndarray]:
    """`model`: a SentenceTransformer in float32. Texts in, vectors as its pooling gives them out."""
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

    shown = model.tokenizer(["two texts", "of different lengths"], padding=True, return_tensors="pt")
    example = {name: shown[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        converted = openvino.convert_model(Embedding(), example_input=example)
    hint = {"INFERENCE_PRECISION_HINT": _PRECISION[dtype]}
    run = openvino.Core().compile_model(converted, "CPU", hint)

    def encode(texts: Sequence[str]) -> np.ndarray:
        # Texts of about one length together: padding is computed, too.
        order = sorted(range(len(texts)), key=lambda n: -len(texts[n]))
        found = np.empty((len(texts), model.get_embedding_dimension()), dtype=np.float32)
        for start in range(0, len(order), batch):
            part = order[start : start + batch]
            tokens = model.tokenizer(
                [texts[n] for n in part],
                padding=True,
                truncation=True,
                max_length=model.max_seq_length,
                return_tensors="np",
            )
            found[part] = run({name: tokens[name] for name in ("input_ids", "attention_mask")})[0]
        return found

    return encode
