"""OpenVINO GenAI: a folder with an openvino_model.xml, by its LLMPipeline on the processor, a GPU or an NPU.

Prompts and answers are text here (folder_text.py); it chooses the tokens, by its own generation config. Its structured
output is not used: it goes on with any token where its grammar has none (`{"const": "x y"}`), and takes 316 for a whole
number from 300 to 310 (2026.4.1). Log probabilities it tells for whole answers alone.
Source: https://docs.openvino.ai/2026/api/genai_api/api.html
"""

from __future__ import annotations

import secrets
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slmkit.backends.answering import Answering, Turns
from slmkit.backends.base import Capabilities
from slmkit.backends.text_at_hand import TextAtHand
from slmkit.errors import (
    CheckpointError,
    MissingDependency,
    ModelNotFound,
    NotEnoughMemory,
    OptionError,
    RuntimeFailure,
    UnsupportedModel,
)
from slmkit.untrusted import brief, is_there, read_json, shown

if TYPE_CHECKING:
    from slmkit.backends.answering import Cancel, Tell
    from slmkit.backends.folder_text import FolderText, GrowingAnswer
    from slmkit.options import LoadOptions
    from slmkit.request import Request
    from slmkit.weights.telling import Notice, Progress

CAPABILITIES = Capabilities(
    token_ids=True, top_k=True, min_p=True, repetition_penalty=True, parse_special=True, ignore_eos=True, stop_ids=True,
    deadline=True,
)  # fmt: skip
GRAPH = "openvino_model.xml"
_VISION = ("openvino_language_model.xml", "openvino_vision_embeddings_model.xml")
_ACCEPTED = ("ctx", "threads", "device", "cache")
_CACHES = {"f32": "f32", "f16": "f16", "q8": "u8"}  # our numbers of the cache -> its KV_CACHE_PRECISION
_MOST_CONFIG_BYTES = 4 << 20
_MOST_PENALTY = 2.0  # either way, of presence and frequency
_NO_MEMORY = ("bad_alloc", "Not enough memory", "out of memory", "CL_OUT_OF")


def open_model(
    model: str, options: LoadOptions, progress: Progress | None = None, notice: Notice | None = None
) -> OpenvinoBackend:
    """A folder.   Raises OptionError, ModelNotFound, ModelError, MissingDependency."""
    from slmkit.backends.registry import take_only

    take_only(options, _ACCEPTED, "openvino")
    folder = Path(model).expanduser()
    _require_folder(folder, model)
    return OpenvinoBackend(f"openvino:{model}", folder, options)


class OpenvinoBackend(TextAtHand):
    """One model; its answers take turns."""

    capabilities = CAPABILITIES

    def __init__(self, name: str, folder: Path, options: LoadOptions) -> None:
        from slmkit.backends.folder_text import FolderText
        from slmkit.backends.room import context_of

        config = read_json(folder / "config.json", _MOST_CONFIG_BYTES)
        self.name = name
        self._most, vocab_size = (_whole(config, key, folder) for key in ("max_position_embeddings", "vocab_size"))
        self.context = context_of(options.ctx, self._most)
        self._text: FolderText = FolderText(folder, str(config.get("model_type")), vocab_size)
        device = (options.device or "cpu").upper()
        self._pipeline: Any = _opened(folder, device, options)
        self._turns = Turns()
        weakref.finalize(self, self._turns.close)  # at the latest when Python ends, which its threads would not survive
        self._facts = {
            "name": name,
            "path": str(folder),
            "runtime": f"openvino-genai {_version()}",
            "architecture": str(config.get("model_type")),
            "device": device,
            "context": self.context,
            "model_context": self._most,
            "vocabulary": vocab_size,
        }

    def generate(self, request: Request) -> Answering:
        """Start the request now. Closing the iterator, or dropping it, cancels the request between two tokens."""
        from slmkit.backends.room import answer_limit

        began = time.perf_counter()
        self._turns.require_open()
        self.capabilities.check(request, self.name)
        self._refuse(request)
        ids = self._text.prompt(request).ids
        limit = answer_limit(len(ids), request.options.max_tokens, None, self.context, self._most)
        return self._turns.answer(lambda cancel, tell: self._answer(request, ids, limit, began, cancel, tell))

    def close(self) -> None:
        """End what is running and give the model back; later requests are refused."""
        self._turns.close()
        self._pipeline = None

    def _refuse(self, request: Request) -> None:
        o = request.options
        self._text.require_ids("stop_ids", o.stop_ids or ())
        for name in ("presence_penalty", "frequency_penalty"):
            if abs(getattr(o, name) or 0.0) > _MOST_PENALTY:
                raise OptionError(f"{name} is {getattr(o, name)}; OpenVINO GenAI takes numbers from -2 to 2")
        if o.min_p == 1.0:
            raise OptionError("min_p is 1.0; OpenVINO GenAI takes numbers below 1, and temperature 0 means the same")

    def _answer(
        self, request: Request, ids: Sequence[int], limit: int, began: float, cancel: Cancel, tell: Tell
    ) -> None:
        """Answer one request, in its turn and its thread."""
        import numpy as np
        import openvino

        from slmkit.backends.folder_text import GrowingAnswer
        from slmkit.events import Started

        config = generation_config(self._pipeline.get_generation_config(), request, limit)
        stop_ids = {*config.stop_token_ids} if not request.options.ignore_eos else {*(request.options.stop_ids or ())}
        answer = GrowingAnswer(self._text.tokenizer, request, stop_ids, len(ids), limit, began)
        tell(Started(len(ids)))
        streamer = _streamer(answer, cancel, tell)
        try:
            self._pipeline.generate(openvino.Tensor(np.array([ids], np.int64)), config, streamer)
        except RuntimeError as error:
            raise _failed(self.name, error) from error
        if streamer.failure is not None:
            raise streamer.failure
        if not answer.reason:
            tell(answer.end("length" if len(answer.ids) >= limit else "stop"))
        tell(answer.finished())


def _streamer(answer: GrowingAnswer, cancel: Cancel, tell: Tell) -> Any:
    """What the pipeline hands its tokens to, between any two of which it can be stopped."""
    import openvino_genai

    status = openvino_genai.StreamingStatus

    class Streamer(openvino_genai.StreamerBase):  # type: ignore[misc, unused-ignore]
        """failure: what went wrong here. Nothing may be raised through the pipeline, which would end the process."""

        failure: BaseException | None = None

        def write(self, tokens: Any) -> Any:
            try:
                cancel.check()
                answer.require_time()
                for id in tokens if isinstance(tokens, (list, tuple)) else [tokens]:
                    tell(answer.take(int(id)))
                    if answer.reason:
                        return status.STOP
            except BaseException as error:
                self.failure = error
                return status.CANCEL
            return status.RUNNING

        def end(self) -> None:
            """Nothing is held back here."""

    return Streamer()


def generation_config(config: Any, request: Request, limit: int) -> Any:
    """A request in the words of its configuration.   config: the model's own, a copy; what is not set is left in it."""
    o = request.options
    config.max_new_tokens = limit
    config.num_beams = config.num_return_sequences = 1
    if o.temperature == 0 or o.top_p == 0:
        config.do_sample = False  # the likeliest token, which alone is in a top_p of 0
    elif o.temperature is not None:
        config.do_sample, config.temperature = True, o.temperature
    for name in ("top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty"):
        if getattr(o, name) is not None:
            setattr(config, name, getattr(o, name))
    if o.top_p:
        config.top_p = o.top_p
    config.rng_seed = secrets.randbits(32) if o.seed is None else o.seed  # its own default is the same each time
    own = set() if o.ignore_eos else {*config.stop_token_ids, config.eos_token_id} - {-1}
    config.stop_token_ids = own | {*(o.stop_ids or ())}
    config.ignore_eos = bool(o.ignore_eos)
    return config


def _require_folder(folder: Path, name: str) -> None:
    """Raise ModelNotFound or UnsupportedModel for what is no folder of a text model."""
    if not folder.is_dir():
        raise ModelNotFound(
            f"there is no folder {name}; openvino: runs folders with an {GRAPH}: fetch one, or make one with `slm "
            "export openvino MODEL FOLDER`"
        )
    if is_there(folder / GRAPH):
        return
    if any(is_there(folder / part) for part in _VISION):
        raise UnsupportedModel(
            f"{folder} is a vision model, and openvino: runs text models alone; leave the prefix out, or use onnx:"
        )
    if is_there(folder / "config.json"):
        raise ModelNotFound(
            f"{folder} is a checkpoint, without an {GRAPH}; make a folder of it: slm export openvino {folder} FOLDER"
        )
    raise ModelNotFound(f"{folder} has no {GRAPH}; openvino: runs folders that optimum-intel exported")


def _whole(config: Any, name: str, folder: Path) -> int:
    value = config.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CheckpointError(f"{folder / 'config.json'} has {name} = {shown(value)}; a whole number above 0 is needed")
    return value


def _opened(folder: Path, device: str, options: LoadOptions) -> Any:
    import openvino
    import openvino_genai

    there = openvino.Core().available_devices
    kinds = {name.split(".")[0] for name in there}
    if device.split(":")[0] not in {"AUTO", "HETERO", "MULTI"} and device.split(".")[0] not in kinds:
        raise MissingDependency(
            f"device is {shown(device.lower())}, and OpenVINO finds {', '.join(there).lower() or 'none'} on this "
            "machine; install Intel's driver for it (https://docs.openvino.ai, configurations), or leave device out"
        )
    properties: dict[str, Any] = {}
    if options.threads is not None:
        properties["INFERENCE_NUM_THREADS"] = options.threads
    if options.cache not in (None, "auto"):
        properties["KV_CACHE_PRECISION"] = _CACHES[str(options.cache)]
    try:
        return openvino_genai.LLMPipeline(str(folder), device, **properties)
    except RuntimeError as error:
        text = _reason(error)
        if any(sign in text for sign in _NO_MEMORY):
            raise NotEnoughMemory(f"{folder} does not fit in memory ({text}); export it with fewer bits") from None
        raise CheckpointError(
            f"{folder} cannot be opened by OpenVINO GenAI on {device} ({text}); export it again with this version of "
            "openvino, or try device cpu"
        ) from None


def _failed(name: str, error: Exception) -> Exception:
    text = _reason(error)
    if any(sign in text for sign in _NO_MEMORY):
        return NotEnoughMemory(f"OpenVINO GenAI found no memory for this answer ({text}); lower max_tokens or ctx")
    return RuntimeFailure(f"OpenVINO GenAI failed in {name} ({text}); try a smaller request")


def _reason(error: Exception) -> str:
    """The last line that says something: those before it name places in its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check "))]
    return brief(RuntimeError((told or lines or ["no reason"])[-1]))


def _version() -> str:
    import openvino_genai

    return str(openvino_genai.__version__).split("-")[0]
