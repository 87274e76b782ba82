"""Which backend runs a model's name: our own engine, or what stands before a colon in it.

Only the prefixes listed here, and those that installed packages bring (entry points of the group `slmkit.backends`),
are prefixes: `phi3:mini-128k` and `C:\\models\\x.gguf` are names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Literal

from slmkit.errors import MissingDependency, ModelNotFound, OptionError
from slmkit.options import LoadOptions

if TYPE_CHECKING:
    from collections.abc import Collection
    from types import ModuleType

    from slmkit.backends.base import Backend
    from slmkit.weights.telling import Notice, Progress

GROUP = "slmkit.backends"  # of entry points: a prefix, and the module that runs it
_PREFIX = re.compile(r"([a-z][a-z0-9-]*):")


@dataclass(frozen=True)
class Runtime:
    """What runs the models of one prefix.

    module: has `open_model(model, options, progress, notice) -> Backend` and CAPABILITIES; importing it is quick.
    runs: in this process, on a server of the user's, or in a cloud.
    packages: what has to be installed for it; `a|b` is one of several that have the same module.
    install: what pip is to install.
    variables: where keys and addresses are looked for, the first one that is set wins.
    """

    prefix: str
    module: str
    about: str
    runs: Literal["here", "server", "cloud"]
    packages: tuple[str, ...] = ()
    install: str = ""
    variables: tuple[str, ...] = ()

    def load(self) -> ModuleType:
        """The module.   Raises MissingDependency where its packages are not installed."""
        if missing := self.missing:
            raise MissingDependency(
                f"{self.prefix}: needs {' and '.join(missing)}, not installed here; run: pip install {self.install}"
            )
        return import_module(self.module)

    @property
    def missing(self) -> tuple[str, ...]:
        """Those packages that are not installed."""
        wanted = [package.split("|") for package in self.packages]
        return tuple(names[0] for names in wanted if not any(map(version_of, names)))


RUNTIMES = {
    runtime.prefix: runtime
    for runtime in (
        Runtime(
            "transformers",
            "slmkit.backends.transformers",
            "Hugging Face Transformers, on the processor or on CUDA",
            "here",
            ("torch", "transformers"),
            "'slmkit[transformers]'",
        ),
        Runtime(
            "llamacpp",
            "slmkit.backends.llamacpp",
            "llama.cpp: GGUF files",
            "here",
            ("xllamacpp",),
            "'slmkit[llamacpp]'",
        ),
        Runtime("mlx", "slmkit.backends.mlx", "Apple's MLX, by mlx-lm", "here", ("mlx", "mlx-lm"), "'slmkit[mlx]'"),
        Runtime(
            "onnx",
            "slmkit.backends.onnx",
            "ONNX Runtime GenAI: folders with a genai_config.json",
            "here",
            ("onnxruntime-genai|onnxruntime-genai-cuda|onnxruntime-genai-directml|onnxruntime-genai-winml",),
            "'slmkit[onnx]'",
        ),
        Runtime(
            "openvino",
            "slmkit.backends.openvino",
            "OpenVINO GenAI: folders with an openvino_model.xml",
            "here",
            ("openvino-genai",),
            "'slmkit[openvino]'",
        ),
        Runtime("ollama", "slmkit.backends.ollama", "a server of Ollama's API", "server", variables=("OLLAMA_HOST",)),
        Runtime(
            "openai",
            "slmkit.backends.openai",
            "any server of OpenAI's API: vLLM, LM Studio, llama.cpp's, a service",
            "server",
            variables=("OPENAI_BASE_URL", "OPENAI_API_KEY"),
        ),
        Runtime(
            "azure",
            "slmkit.backends.azure",
            "Azure AI Foundry and Azure Machine Learning",
            "cloud",
            variables=(
                "AZURE_OPENAI_ENDPOINT",
                "AZURE_OPENAI_API_KEY",
                "AZURE_INFERENCE_ENDPOINT",
                "AZURE_INFERENCE_CREDENTIAL",
                "AZURE_AI_API_BASE",
                "AZURE_AI_API_KEY",
            ),
        ),
        Runtime(
            "nim",
            "slmkit.backends.nim",
            "NVIDIA NIM, hosted or a container of your own",
            "cloud",
            variables=("NIM_BASE_URL", "NVIDIA_API_KEY"),
        ),
        Runtime("github", "slmkit.backends.github", "GitHub Models, retired 2026-07-30", "cloud"),
    )
}


def version_of(package: str) -> str | None:
    """Of an installed package; None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def runtimes() -> dict[str, Runtime]:
    """All, by their prefixes, with those of installed packages; ours keep their names."""
    found = {
        point.name: Runtime(point.name, point.value, f"from the package {_package(point)}", "here")
        for point in metadata.entry_points(group=GROUP)
    }
    return {**found, **RUNTIMES}


def split(name: str) -> tuple[Runtime, str] | None:
    """The runtime that a name's prefix means, and the rest of the name; None if it has no prefix."""
    begin = _PREFIX.match(name) if isinstance(name, str) else None  # what is no name is refused where names are read
    if begin is None:
        return None
    prefix = begin[1]
    runtime = RUNTIMES.get(prefix) or runtimes().get(prefix)
    return None if runtime is None else (runtime, name[begin.end() :])


def open_backend(name: str, options: LoadOptions, progress: Progress | None, notice: Notice | None) -> Backend:
    """The backend for a model's name, opened.   Raises MissingDependency, ModelNotFound and what opening raises."""
    found = split(name)
    falls, options = options.fallback is not None, replace(options, fallback=None)
    if found is None:
        from slmkit.backends.native import NativeBackend

        return NativeBackend(name, options, progress, notice)
    runtime, model = found
    if not model.strip():
        raise ModelNotFound(f"{name} names no model; write it behind the colon, as in {runtime.prefix}:phi3.5")
    if falls and runtime.runs != "here":
        from slmkit.backends.fallback import open_falling

        return open_falling(name, runtime, model, options, progress, notice)
    backend: Backend = runtime.load().open_model(model, options, progress, notice)
    return backend


def take_only(options: LoadOptions, accepted: Collection[str], prefix: str) -> None:
    """Raise OptionError naming an option of loading that is set, and that this runtime does not have."""
    for name, value in vars(options).items():
        if value is not None and name not in accepted:
            takes = f"it takes {', '.join(sorted(accepted))}" if accepted else "it takes none"
            raise OptionError(f"{prefix}: does not have the option {name}; {takes}")


def _package(point: metadata.EntryPoint) -> str:
    return point.dist.name if point.dist else point.value
