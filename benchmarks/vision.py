"""Where an image question's time and memory go: preprocess, tower, prefill, decode.

    python benchmarks/vision.py MODEL [--image FILE] [--num-crops 16]

Without a file the image is 1344 x 1008 pixels of noise. Memory is what the process grows by over the loaded model while
an image is encoded, beside the plan's estimate.
"""

from __future__ import annotations

import argparse
import io
import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

import slmkit
from slmkit.backends.images import image_bytes
from slmkit.bench.limits import typical_limits
from slmkit.request import Message, Request
from slmkit.vision.picture import open_picture


class Peak:
    """The most memory of this process that is no mapped file, seen every millisecond, over what it was."""

    def __enter__(self) -> Peak:
        self._process, self.bytes, self._over = psutil.Process(), 0, threading.Event()
        self._first = self._held()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _held(self) -> int:
        memory = self._process.memory_info()
        return int(memory.rss - memory.shared)

    def _watch(self) -> None:
        while not self._over.wait(0.001):
            self.bytes = max(self.bytes, self._held() - self._first)


def noise(width: int, height: int) -> bytes:
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def timed(work: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def drained(work: Any) -> Any:
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--image")
    parser.add_argument("--size", default="1344x1008")
    parser.add_argument("--num-crops", type=int, default=16)
    parser.add_argument("--quantize")
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--ctx", type=int, default=4096)
    parser.add_argument("--tower-only", action="store_true")
    args = parser.parse_args()
    data = Path(args.image).read_bytes() if args.image else noise(*map(int, args.size.split("x")))
    with slmkit.load(args.model, ctx=args.ctx, quantize=args.quantize) as model:
        source, network = model.backend.loaded.source, model.backend.loaded.model
        picture = open_picture(data)
        grid = picture.grid(args.num_crops)
        limits = typical_limits()
        with Peak() as peak:
            image, preprocess = timed(lambda: picture.hd(args.num_crops))
            rows, tower = timed(lambda: drained(network.features(image)))
        found = {
            "views": grid.n_views,
            "tokens": grid.n_tokens,
            "preprocess_s": preprocess,
            "tower_s": tower,
            "int8_macs_per_s": limits and limits.int8_macs_per_s,
            "tower_macs_per_s": grid.n_views * network.config.tower.view_macs / tower,
            "peak_bytes": peak.bytes,
            "estimate_bytes": image_bytes(source, [grid], picture.width * picture.height),
        }
        if not args.tower_only:
            model.backend._worker._engine.encoder._keep(image.digest, rows)  # so that the rest is the prompt alone
            request = Request(
                (Message("user", "What is shown in this image?", (picture,)),),
                options=slmkit.Options(
                    max_tokens=args.max_tokens, num_crops=args.num_crops, ignore_eos=True, speculate=0
                ),
            )
            end = list(model.events(request))[-1]
            found |= {
                "prompt_tokens": end.usage.prompt_tokens,
                "prefill_s": end.timing.first_token_s,
                "decode_tokens_per_s": (end.usage.completion_tokens - 1)
                / (end.timing.total_s - end.timing.first_token_s),
            }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
