"""The package onnxruntime-genai: which generation of its API is installed, and how it opens a folder."""

from __future__ import annotations

import json
from types import ModuleType
from typing import TYPE_CHECKING, Any

from slmkit.backends.onnx_folder import DEVICES, OnnxFolder
from slmkit.errors import CheckpointError, MissingDependency, NotEnoughMemory, OptionError, SlmError, UnsupportedModel
from slmkit.untrusted import brief, shown

if TYPE_CHECKING:
    from slmkit.options import LoadOptions

TESTED = "0.18"
NO_MEMORY = ("bad allocation", "bad_alloc", "Failed to allocate", "out of memory")  # as its errors say it
_ABSENT = ("not supported in this build", "interface not available", "not been built with", "Unknown provider name")


def genai() -> ModuleType:
    """The package, of the generation of its API that is spoken here.   Raises MissingDependency."""
    try:
        import onnxruntime_genai
    except ImportError as error:
        raise MissingDependency(
            f"onnxruntime-genai is installed and cannot be loaded ({brief(error)}); its CUDA and DirectML builds need "
            "their libraries, and only one of its builds may be installed: pip install --force-reinstall "
            "onnxruntime-genai"
        ) from None
    require_generation(onnxruntime_genai)
    # Windows builds tell Microsoft about their use unless they are asked not to.
    getattr(onnxruntime_genai, "disable_telemetry_events", lambda: None)()
    found: ModuleType = onnxruntime_genai
    return found


def require_generation(og: Any) -> None:
    """Raise MissingDependency for a package whose API is older or newer than the one that is spoken here.

    The first one, until 0.5, took the prompt as `params.input_ids` and had `compute_logits` called before each token;
    since 0.6 a generator has `append_tokens`, and since 0.9 `set_inputs`, which images need.
    """
    version = getattr(og, "__version__", "of unknown version")
    wanted = f'pip install "onnxruntime-genai=={TESTED}.*"'
    generator = getattr(og, "Generator", None)
    if hasattr(generator, "compute_logits") or (generator and not hasattr(generator, "append_tokens")):
        raise MissingDependency(
            f"onnxruntime-genai {version} has the API from before 0.6 (params.input_ids, compute_logits), and slmkit "
            f"speaks the one since 0.9; run: {wanted}"
        )
    if generator and not hasattr(generator, "set_inputs"):
        raise MissingDependency(
            f"onnxruntime-genai {version} has the API of 0.6 to 0.8 (params.set_inputs), and slmkit speaks the one "
            f"since 0.9; run: {wanted}"
        )
    gone = [name for name in ("Config", "Model", "GeneratorParams", "Generator") if not hasattr(og, name)]
    gone += [f"Generator.{name}" for name in ("generate_next_token", "get_logits", "set_logits", "get_next_tokens")
             if generator and not hasattr(generator, name)]  # fmt: skip
    if gone:
        raise MissingDependency(
            f"onnxruntime-genai {version} has no {', '.join(gone)}: it is of a newer API than slmkit speaks, which was "
            f"tested with {TESTED}; run: {wanted}"
        )


def device_of(asked: str | None) -> str | None:
    """Its name of a provider, "" for the processor, None for what the folder says.   Raises OptionError."""
    if asked is None:
        return None
    if asked.lower() not in DEVICES:
        raise OptionError(f"device is {shown(asked)}; onnx: takes one of {', '.join(DEVICES)}")
    return DEVICES[asked.lower()]


def opened(og: Any, folder: OnnxFolder, device: str | None, options: LoadOptions) -> Any:
    """Its Model.   device: of device_of.   Raises MissingDependency, ModelError, NotEnoughMemory."""
    try:
        config = og.Config(str(folder.path))
        if device is not None:
            config.clear_providers()
        if device:
            config.append_provider(device)
        if options.threads is not None:
            config.overlay(json.dumps(folder.overlay_of({"intra_op_num_threads": options.threads})))
        return og.Model(config)
    except (RuntimeError, ValueError, TypeError) as error:
        raise _not_opened(og, folder, options.device, error) from None


def _not_opened(og: Any, folder: OnnxFolder, device: str | None, error: Exception) -> SlmError:
    text = brief(error)
    if any(sign in text for sign in _ABSENT):
        provider = device or next(iter(folder.providers), "a provider")
        why = "device is" if device else "its genai_config.json asks for"
        way_out = "" if folder.context_binaries else ", or give device cpu"
        return MissingDependency(
            f"{folder.path} cannot be run: {why} {provider}, and onnxruntime-genai {og.__version__} as it is installed "
            f"here does not have it ({text}); {_cure(provider)}{way_out}"
        )
    if any(sign in text for sign in NO_MEMORY):
        return NotEnoughMemory(f"{folder.path} does not fit in memory ({text}); take a smaller or a quantized one")
    if "EPContext" in text:
        return UnsupportedModel(
            f"{folder.path} holds binaries compiled for one kind of processor, which are not for this one ({text}); "
            "take the folder that was made for it"
        )
    return CheckpointError(
        f"{folder.path} cannot be opened by ONNX Runtime GenAI ({text}); build it again with `slm export onnx`, or "
        "fetch it again"
    )


def _cure(provider: str) -> str:
    known = {
        "cuda": "run: pip uninstall onnxruntime-genai, then pip install onnxruntime-genai-cuda",
        "dml": "run on Windows: pip uninstall onnxruntime-genai, then pip install onnxruntime-genai-directml",
        "qnn": "it runs on Windows with a Snapdragon processor, where onnxruntime-qnn is installed beside it",
    }
    return known.get(provider.lower(), "install a build of ONNX Runtime that has it")
