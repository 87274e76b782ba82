"""Images on the command line: run, chat and show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("PIL")
from PIL import Image

from slmkit.cli import chat as chat_module
from slmkit.cli.conversation import load
from slmkit.cli.main import main
from slmkit.errors import RequestError
from slmkit.options import LoadOptions, Options
from vision_models import write_vision_model

IMAGES = Path(__file__).parents[1] / "data" / "images"
TABLE = str(IMAGES / "exceltable.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return str(write_vision_model(tmp_path_factory.mktemp("vision") / "model"))


def test_run_takes_images_and_counts_them_in_the_prompt(folder, capsys):
    asked = ["run", folder, "what", "--max-tokens", "2", "--json", "-q"]
    assert main([*asked, "--image", TABLE]) == 0
    one = json.loads(capsys.readouterr().out)
    assert main([*asked, "--image", TABLE, "--image", TABLE, "--num-crops", "1"]) == 0
    two = json.loads(capsys.readouterr().out)
    assert one["usage"]["prompt_tokens"] > 457
    assert two["usage"]["prompt_tokens"] > 2 * 313


def test_run_takes_frames_of_a_video(folder, tmp_path, capsys):
    for i in range(4):
        Image.new("RGB", (40, 40), (60 * i, 0, 0)).save(tmp_path / f"{i}.png")
    asked = ["run", folder, "what", "--max-tokens", "1", "--json", "-q", "--video", str(tmp_path)]
    assert main([*asked, "--frames", "2", "--num-crops", "1"]) == 0
    assert 2 * 313 < json.loads(capsys.readouterr().out)["usage"]["prompt_tokens"] < 3 * 313


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--image", "none.png"], "there is no file none.png"),
        (["--image", ""], "empty"),
        (["--frames", "3"], "--video"),
        (["--image", __file__], "not an image"),
        (["--image", TABLE, "--num-crops", "65"], "num-crops is 65"),
        (["--image", "http://127.0.0.1:9/a.png"], "private_urls"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(folder, flags, message, capsys):
    assert main(["run", folder, "what", "-q", *flags]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


def test_a_text_model_refuses_an_image(capsys):
    assert main(["run", "tiny", "what", "-q", "--image", TABLE]) == 2
    assert "reads text alone" in capsys.readouterr().err
    assert main(["show", "tiny", "--image", TABLE]) == 2
    assert "reads text alone" in capsys.readouterr().err


def test_show_gives_tokens_memory_and_time_before_a_weight_is_read(folder, capsys):
    assert main(["show", folder, "--image", TABLE, "--image", str(IMAGES / "australia.jpg")]) == 0
    out = capsys.readouterr().out
    assert "487 x 206  1 x 2 crops and the whole     457 tokens" in out
    assert "1 x 1 crops and the whole     313 tokens" in out
    assert "770 of a context of 4,096" in out
    assert main(["show", folder, "--image", TABLE, "--num-crops", "16", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["tokens"] == 2353
    assert plan["total_bytes"] == plan["weight_bytes"] + plan["cache_bytes"] + plan["encoding_bytes"]
    assert plan["fits"]
    assert main(["show", folder, "--num-crops", "3"]) == 2
    assert main(["show", folder, "--image", TABLE, "--num-crops", "0"]) == 2


def talk(folder: str) -> chat_module.Chat:
    import slmkit
    from slmkit.cli.images import open_image

    return chat_module.Chat(
        lambda name, options: slmkit.load(name),
        folder,
        Options(max_tokens=2),
        open_image=lambda name: open_image(name, LoadOptions()),
    )


def test_a_chat_takes_images_and_saves_them_by_name(folder, tmp_path, capsys):
    here = talk(folder)
    here._command(f"/image {TABLE}")
    assert "487 x 206 pixels" in capsys.readouterr().err
    here._answer("what")
    assert len(here.messages[0].images) == 1
    assert here.images == []
    here._answer("why")
    assert here.messages[2].images == ()
    here._command(f"/save {tmp_path / 'talk.json'}")
    saved = json.loads((tmp_path / "talk.json").read_text())
    assert saved["messages"][0]["images"] == [TABLE]
    here._command("/clear")
    here._command(f"/load {tmp_path / 'talk.json'}")
    assert (here.messages[0].images[0].width, len(here.messages)) == (487, 4)
    here._answer("how")
    here.model.close()


def test_a_chat_says_what_is_wrong_with_an_image(folder, tmp_path):
    here = talk(folder)
    with pytest.raises(RequestError, match="no file"):
        here._command("/image none.png")
    with pytest.raises(RequestError, match="/image needs"):
        here._command("/image")
    here.model.close()
    text = talk("tiny")
    with pytest.raises(RequestError, match="reads text alone"):
        text._command(f"/image {TABLE}")
    text.model.close()


def test_an_image_that_is_gone_when_a_talk_is_loaded_is_named(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([{"role": "user", "content": "x", "images": ["gone.png"]}]))
    from slmkit.cli.images import open_image

    with pytest.raises(RequestError, match=r"gone\.png"):
        load(tmp_path / "a.json", lambda name: open_image(name, LoadOptions()))
