"""The published tokenizers as fixtures."""

import json
from pathlib import Path

import pytest
from text_data import VARIANTS, phi3_config, phi3_spec


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def mini_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The text files of Phi-3-mini (July 2024) as a checkpoint folder."""
    folder = tmp_path_factory.mktemp("phi-3-mini")
    (folder / "tokenizer.json").write_text(json.dumps(phi3_spec("phi-3-mini")), "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(phi3_config("phi-3-mini")), "utf-8")
    return folder
