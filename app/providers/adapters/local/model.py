"""A causal language model with its tokenizer, from a folder, the model hub or a GGUF file."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import torch
from jinja2 import TemplateError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from app.providers.teacher import LocalModel
from app.synth.teacher_errors import TeacherRefused

PACKAGE_PREFIX = "package:"
# For a model without a chat template. The model would go on with the next question of the user.
PLAIN_NAMES = {"system": "System", "user": "User", "assistant": "Assistant"}
PLAIN_END = "\nUser:"


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory.

    Attributes:
        model: In evaluation mode, on the GPU if there is one.
        tokenizer: Its tokenizer.
        context_tokens: The most tokens of a prompt and its reply together.
        end_ids: The tokens that end a reply.
        pad_id: The token of padding, which the model does not look at.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    context_tokens: int
    end_ids: frozenset[int]
    pad_id: int

    def encode(self, messages: list[dict]) -> list[int]:
        """Return the token ids of the messages, up to where the model's reply begins."""
        if self.tokenizer.chat_template is None:
            return self.tokenizer(plain_prompt(messages))["input_ids"]
        try:
            text = self._apply_template(messages)
        except TemplateError:
            # Some templates refuse a system message, such as Gemma's.
            text = self._apply_template(without_system(messages))
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _apply_template(self, messages: list[dict]) -> str:
        return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    def decode(self, ids: list[int]) -> tuple[str, bool]:
        """Return the text, and whether it was cut where a model without a template began a turn of the user."""
        text = self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        if self.tokenizer.chat_template is not None:
            return text, False
        text, end, _ = text.partition(PLAIN_END)
        return text.strip(), bool(end)


def plain_prompt(messages: list[dict]) -> str:
    """Return the turns as lines that begin with who speaks."""
    lines = [f"{PLAIN_NAMES[message['role']]}: {message['content']}" for message in messages if message["content"]]
    return "\n".join([*lines, "Assistant:"])


def without_system(messages: list[dict]) -> list[dict]:
    """Return the messages with the text of the system at the beginning of the first turn."""
    system, first, *turns = messages
    return [{**first, "content": f"{system['content']}\n\n{first['content']}"}, *turns]


def load_model(source: LocalModel) -> LoadedModel:
    """Load a model. It never runs code that comes with a model.

    Raises:
        TeacherRefused: model_unknown: The model can't be loaded. The message says why.
    """
    disable_progress_bar()
    where, options = _arguments(source)
    options |= {"trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, **options)
        model = AutoModelForCausalLM.from_pretrained(where, **options, dtype=choose_precision(source))
    except (OSError, ValueError, KeyError, ImportError) as error:
        message = f"the model {source.source!r} can't be loaded ({type(error).__name__}: {error})"
        raise TeacherRefused("model_unknown", message) from error
    model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    end_ids = _end_ids(model, tokenizer)
    if not end_ids:
        raise TeacherRefused("model_unknown", f"the model {source.source!r} has no token that ends a reply")
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(end_ids)
    # A tokenizer without a limit of its own says 10**30.
    context_tokens = getattr(model.config, "max_position_embeddings", None) or tokenizer.model_max_length
    return LoadedModel(model, tokenizer, context_tokens, end_ids, pad_id)


def _arguments(source: LocalModel) -> tuple[str, dict]:
    """Return the first argument of `from_pretrained`, and the named ones."""
    if source.kind == "gguf":
        file = gguf_file(source.source)
        return str(file.parent), {"gguf_file": file.name}
    return source.source, {"revision": source.revision or "main"} if source.kind == "hub" else {}


def gguf_file(name: str) -> Path:
    """Return the path of a GGUF file, which may be named by its package: "package:PACKAGE/FILE".

    Raises:
        TeacherRefused: model_unknown: There is no such file or package.
    """
    path = Path(name)
    if name.startswith(PACKAGE_PREFIX):
        package, _, file = name.removeprefix(PACKAGE_PREFIX).partition("/")
        # The package is not imported: it may need another program that runs the file, such as llama.cpp.
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            message = f"the package {package!r} of the model {name!r} is not installed"
            raise TeacherRefused("model_unknown", message)
        path = Path(spec.submodule_search_locations[0]) / file
    if not path.is_file():
        raise TeacherRefused("model_unknown", f"there is no file {path} of the model {name!r}")
    return path


def choose_precision(source: LocalModel) -> torch.dtype:
    """Return bfloat16 if the hardware multiplies in it, else float32."""
    # The weights of a GGUF file stay packed, and its kernels compute in float32.
    if source.kind == "gguf":
        return torch.float32
    # Emulated bfloat16 is slower than float32.
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    processor = torch.cpu.get_capabilities()
    fast = processor.get("avx512_bf16", False) or processor.get("amx_tile", False)
    return torch.bfloat16 if fast else torch.float32


def _end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    configured = model.generation_config.eos_token_id
    ids = configured if isinstance(configured, list) else [configured]
    return frozenset(token_id for token_id in [*ids, tokenizer.eos_token_id] if token_id is not None)
