"""Hugging Face Transformers: its model, tokenizer and chat template; tokens are chosen as everywhere (choosing.py).

No code of a checkpoint is ever run (`trust_remote_code` stays off), and no pickle is read.
Source: https://huggingface.co/docs/transformers/main_classes/text_generation
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slmkit.backends.answering import Answering, Turns
from slmkit.backends.base import Capabilities
from slmkit.errors import (
    CheckpointError,
    MissingDependency,
    ModelError,
    NotEnoughMemory,
    RequestError,
    RuntimeFailure,
    SlmError,
    UnsupportedModel,
)
from slmkit.untrusted import brief, shown

if TYPE_CHECKING:
    from slmkit.backends.answering import Cancel, Tell
    from slmkit.engine.job import Task
    from slmkit.options import LoadOptions
    from slmkit.request import Message, Request
    from slmkit.text.prompt import Prompt
    from slmkit.weights.telling import Notice, Progress

_ACCEPTED = ("ctx", "offline", "quantize", "threads")
CAPABILITIES = Capabilities(
    token_ids=True, logprobs=True, logit_bias=True, processors=True, scorer=True, top_k=True, min_p=True,
    repetition_penalty=True, repetition_window=True, parse_special=True, ignore_eos=True, stop_ids=True, many=True,
    constraint=True, deadline=True, prompt_logprobs=True,
)  # fmt: skip


_LEAST_RELEASE = 5, 23  # 5.0.0 keeps the cache over LongRoPE's switch, and finds no experts in Phi-3.5-MoE's files


def open_model(
    model: str, options: LoadOptions, progress: Progress | None = None, notice: Notice | None = None
) -> TransformersBackend:
    """A folder, a short name, or owner/name on the hub.   Raises OptionError, ModelNotFound, ModelError."""
    from slmkit.backends.folders import no_folder
    from slmkit.backends.registry import take_only, version_of
    from slmkit.weights.locate import locate

    take_only(options, _ACCEPTED, "transformers")
    _require_release(version_of("transformers") or "0.0")
    refuse = partial(_refuse_config, model)
    found = locate(model, offline=bool(options.offline), progress=progress, notice=notice, refuse=refuse)
    if found.named is not None or not found.path.is_dir():
        raise no_folder("transformers", model)
    return TransformersBackend(f"transformers:{model}", found.path, options, notice)


class TransformersBackend:
    """One model on the first CUDA device if there is one, else on the processor; answers take turns.

    n answers of one request run as one batch.
    """

    capabilities = CAPABILITIES

    def __init__(self, name: str, folder: Path, options: LoadOptions, notice: Notice | None = None) -> None:
        from slmkit.backends.choosing import Asking
        from slmkit.backends.folders import ending_ids, refuse_packed
        from slmkit.engine.defaults import generation_defaults
        from slmkit.text.tokenizer import Tokenizer
        from slmkit.weights.checkpoint import Checkpoint

        self.name = name
        checkpoint = Checkpoint.open(folder)
        _refuse_config(str(folder), checkpoint.config)
        refuse_packed(checkpoint, "Transformers")
        quantization = _quantization(options.quantize)
        defaults = generation_defaults(checkpoint.generation_config)
        if (defaults.beams or 1) > 1:
            raise UnsupportedModel(f"{folder / 'generation_config.json'} asks for beams; set num_beams to 1 there")
        with _told(folder):
            self._theirs = _tokenizer(folder)
            spec = json.loads(self._theirs.backend_tokenizer.to_str())
        self._tokenizer = Tokenizer(spec, {"bos_token": self._theirs.bos_token, "eos_token": self._theirs.eos_token})
        with _told(folder):
            self._model = _load(folder, quantization, options.threads)
        self._vocab_size = int(self._model.get_output_embeddings().weight.shape[0])
        self._tokenizer.require_fit(self._vocab_size)
        most = _longest(self._model.config, folder)
        self.context = _context(checkpoint.config, most, options.ctx, notice)
        stop_ids = ending_ids(checkpoint, self._vocab_size)
        self._asking = Asking(self._tokenizer, self._vocab_size, defaults, stop_ids, self.context, most)
        self._facts = _facts(name, folder, self._model, options.quantize) | {
            "context": self.context,
            "model_context": most,
            "vocabulary": self._vocab_size,
        }
        self._turns = Turns()

    def generate(self, request: Request) -> Answering:
        """Start the request now. Closing the iterator, or dropping it, cancels the request."""
        self._turns.require_open()
        self.capabilities.check(request, self.name)
        came = time.perf_counter()
        task = self._asking.task(request, self._ids(request), came)
        return self._turns.answer(lambda cancel, tell: self._run(task, cancel, tell))

    def describe(self) -> dict[str, Any]:
        """Facts about the loaded model, for people and programs."""
        return dict(self._facts)

    def render(self, messages: Sequence[Message], parse_special: bool = False) -> Prompt:
        """The exact prompt of a conversation, as Transformers writes it: text and ids."""
        from slmkit.text.prompt import Prompt

        text = self._text(messages, parse_special)
        return Prompt(tuple(self._encode(text, add_special_tokens=False)), text, ())

    def tokenize(self, text: str) -> tuple[int, ...]:
        """The ids of a text to continue, with what the checkpoint puts before one."""
        return tuple(self._encode(text, add_special_tokens=True))

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of ids that begin one; control tokens have none.   Raises RequestError for ids that are none."""
        from slmkit.backends.native import check_ids

        check_ids(ids, self._vocab_size)
        return self._tokenizer.decode(ids)

    def close(self) -> None:
        """End what is running and give the memory back; later requests are refused."""
        self._turns.close()
        self._model = None

    def _ids(self, request: Request) -> tuple[int, ...]:
        if request.messages is not None:
            return self.render(request.messages, request.parse_special).ids
        if request.prompt is not None:
            self._refuse_controls(request.prompt, request.parse_special)
            return self.tokenize(request.prompt)
        return tuple(request.ids or ())

    def _text(self, messages: Sequence[Message], parse_special: bool) -> str:
        """What the checkpoint's template makes of a conversation.   Raises RequestError where it drops a message."""
        from slmkit.text.template import markers_for, require_all

        for message in messages:
            self._refuse_controls(message.content, parse_special)
        markers = markers_for(messages)
        marked = self._rendered(messages, markers)
        require_all(messages, [marker in marked for marker in markers])
        return self._rendered(messages, [message.content for message in messages])

    def _rendered(self, messages: Sequence[Message], contents: Sequence[str]) -> str:
        import jinja2

        turns = [
            {"role": message.role, "content": content} for message, content in zip(messages, contents, strict=True)
        ]
        try:
            return str(self._theirs.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
        except (jinja2.TemplateError, ValueError) as error:
            raise RequestError(
                f"the chat template of {self.name}, as Transformers renders it, refuses this conversation "
                f"({brief(error)}); change its roles or their order, or continue a plain text"
            ) from None

    def _refuse_controls(self, text: str, parse_special: bool) -> None:
        """Raise RequestError for typed text that Transformers' tokenizer would take for control tokens."""
        if not parse_special and (controls := self._tokenizer.controls_in(text)):
            raise RequestError(
                f"the text has {shown(controls[0])} in it, which Transformers reads as a control token; remove it, or "
                "say with parse_special that it may act as one"
            )

    def _encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise RequestError("the text has half a surrogate pair, which is not valid Unicode; remove it") from None
        return [int(id) for id in self._theirs(text, add_special_tokens=add_special_tokens)["input_ids"]]

    def _run(self, task: Task, cancel: Cancel, tell: Tell) -> None:
        """Answer one task, in its turn and its thread."""
        import torch
        import transformers

        from slmkit.backends.choosing import Choosing

        model = self._model
        choosing = Choosing(task, tell)
        ids = torch.tensor([task.ids] * choosing.n, device=model.device)
        with _told_memory(), torch.inference_mode():
            if task.prompt_logprobs is not None:
                choosing.read(row.float().cpu().numpy() for row in model(input_ids=ids[:1]).logits[0])
            model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                generation_config=transformers.GenerationConfig(
                    max_new_tokens=task.limit, do_sample=False, pad_token_id=0, use_cache=True
                ),
                logits_processor=transformers.LogitsProcessorList([_Chooser(choosing, cancel)]),
                stopping_criteria=transformers.StoppingCriteriaList([_Ender(choosing)]),
            )
        if not choosing.is_done:
            raise RuntimeFailure("Transformers ended an answer before it was complete; lower max_tokens")


class _Chooser:
    """A logits processor that leaves one token to choose: the one that slmkit chose."""

    def __init__(self, choosing: Any, cancel: Cancel) -> None:
        self._choosing, self._cancel = choosing, cancel

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        self._cancel.check()
        chosen = self._choosing.take(scores.float().cpu().numpy())
        one = scores.new_full(scores.shape, float("-inf"))
        for row, id in enumerate(chosen):
            one[row, id] = 0.0
        return one


class _Ender:
    """A stopping criterion: which answers are complete."""

    def __init__(self, choosing: Any) -> None:
        self._choosing = choosing

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        return input_ids.new_tensor(self._choosing.done).bool()


def _require_release(version: str) -> None:
    """Raise MissingDependency for one that is known to answer wrongly."""
    major, minor = (int(part) for part in version.split(".")[:2])
    if (major, minor) < _LEAST_RELEASE:
        raise MissingDependency(
            f"transformers: transformers {version} is installed, which answers wrongly beyond LongRoPE's original "
            f"context; run: pip install -U 'transformers>={'.'.join(map(str, _LEAST_RELEASE))},<6'"
        )


def _refuse_config(model: str, config: Mapping[str, Any]) -> None:
    """Refuse, by its config.json, a model that Transformers would need more than its own code for.

    Of a GGUF file the hub tells model_type alone.
    """
    from slmkit.backends.folders import no_folder

    if set(config) == {"model_type"}:
        raise no_folder("transformers", model)
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    kind = config.get("model_type")
    if kind in CONFIG_MAPPING_NAMES:
        return
    if config.get("auto_map"):
        raise UnsupportedModel(
            f"{model} asks for program code of its own, which Transformers would have to run and slmkit never lets it; "
            "leave the prefix out, if slmkit knows the model"
        )
    raise UnsupportedModel(
        f"{model} has model_type {shown(kind)}, which this Transformers does not know; run: pip install -U transformers"
    )


def _quantization(asked: str | None) -> Any:
    """The configuration for bitsandbytes; None leaves the weights as they are."""
    from slmkit.backends.registry import version_of

    if asked in (None, "none"):
        return None
    missing = [package for package in ("bitsandbytes", "accelerate") if version_of(package) is None]
    if missing:
        raise MissingDependency(
            f"transformers: quantizes by bitsandbytes and needs {' and '.join(missing)}, not installed here; run: pip "
            f"install {' '.join(missing)}, or leave quantize out"
        )
    import transformers

    return transformers.BitsAndBytesConfig(load_in_4bit=asked == "q4", load_in_8bit=asked == "q8")


def _tokenizer(folder: Path) -> Any:
    import transformers

    return transformers.AutoTokenizer.from_pretrained(
        str(folder), use_fast=True, trust_remote_code=False, local_files_only=True
    )


def _load(folder: Path, quantization: Any, threads: int | None) -> Any:
    """The model, every weight of it from the file.   Raises CheckpointError where one is missing."""
    import torch
    import transformers
    from transformers.utils import logging

    if threads is not None:
        torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    _require_memory(folder, device, quantization is not None)
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        str(folder),
        dtype="auto",
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
        output_loading_info=True,
        **({} if quantization is None else {"quantization_config": quantization, "device_map": {"": device}}),
    )
    for what, names in (("is missing", info["missing_keys"]), ("has another shape", info["mismatched_keys"])):
        if names:
            raise CheckpointError(
                f"{shown(min(map(str, names)))} {what} in the weights of {folder}, and Transformers would fill it with "
                "noise; fetch the model again"
            )
    model.generation_config = transformers.GenerationConfig()  # the checkpoint's own decides through our options
    return (model if quantization is not None else model.to(device)).eval()


def _require_memory(folder: Path, device: str, is_quantized: bool) -> None:
    """Raise NotEnoughMemory for weights that cannot fit in what is free."""
    from slmkit.engine.memory import free_bytes

    needed = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    if device == "cpu" and not is_quantized and needed > (free := free_bytes()):
        raise NotEnoughMemory(
            f"the weights in {folder} take {needed / 1e9:.1f} GB as they are, and {free / 1e9:.1f} GB are free; leave "
            "the prefix out, and slmkit packs them in 4 bits"
        )


def _context(config: Mapping[str, Any], most: int, asked: int | None, notice: Notice | None) -> int:
    """The context to run with.

    Of PhiMoE, Transformers 5.23 and 5.24 keep LongRoPE's short factors beyond the original context, where 4.46 took the
    long ones, as the model was trained; so the original context is the default.
    """
    from slmkit.backends.room import context_of

    original = config.get("original_max_position_embeddings")
    if config.get("model_type") != "phimoe" or not isinstance(original, int) or original >= most:
        return context_of(asked, most)
    context = original if asked is None else context_of(asked, most)
    if notice:
        wrong = f"beyond {original} tokens Transformers turns this model's prompts by the wrong factors"
        notice(f"context: {context} of {most} tokens; {wrong}" + (", which ctx allows" if context > original else ""))
    return context


def _longest(config: Any, folder: Path) -> int:
    most = getattr(config, "max_position_embeddings", None)
    if not isinstance(most, int) or most < 1:
        raise UnsupportedModel(f"{folder / 'config.json'} has no max_position_embeddings, the longest context; add it")
    return most


def _facts(name: str, folder: Path, model: Any, quantize: str | None) -> dict[str, Any]:
    import torch
    import transformers

    return {
        "name": name,
        "path": str(folder),
        "runtime": f"transformers {transformers.__version__}, torch {torch.__version__}",
        "architecture": str(model.config.model_type),
        "parameters": int(model.num_parameters()),
        "quantization": str(model.dtype).removeprefix("torch.") if quantize in (None, "none") else quantize,
        "weight_bytes": int(model.get_memory_footprint()),
        "device": str(model.device),
    }


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Turn what Transformers raises while it loads into one sentence."""
    try:
        yield
    except (SlmError, KeyboardInterrupt, SystemExit):
        raise
    except Exception as error:
        raise ModelError(
            f"Transformers cannot load {folder} ({type(error).__name__}: {brief(error)}); fetch it again, or leave the "
            "prefix out"
        ) from error


@contextmanager
def _told_memory() -> Iterator[None]:
    """Turn a lack of memory into ours."""
    import torch

    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise NotEnoughMemory(
            f"torch found no memory for this answer ({brief(error)}); shorten the prompt or lower max_tokens or n"
        ) from None
