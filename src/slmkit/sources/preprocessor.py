"""preprocessor_config.json: what a model's files say about its images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slmkit.models.config import ConfigReader
from slmkit.vision.hd import MEAN, PATCHES, STD

MOST_CROPS = 64
_NEUTRAL = frozenset({"auto_map", "processor_class", "feature_extractor_type"})


def read_num_crops(raw: Mapping[str, Any], path: Path) -> int:
    """The most crops of an image. Raises UnsupportedModel where the images are made otherwise than here."""
    read = ConfigReader(raw, "phi3_v", str(path))
    read.must_be("image_processor_type", "Phi3VImageProcessor", "Phi3VImageProcessor")
    read.must_be("num_img_tokens", PATCHES**2, PATCHES**2)
    read.must_be("image_mean", MEAN, MEAN)
    read.must_be("image_std", STD, STD)
    read.must_be("do_convert_rgb", True, True)
    crops = read.integer("num_crops", most=MOST_CROPS)
    read.finish(_NEUTRAL)
    return crops
