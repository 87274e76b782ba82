"""Images through the whole stack, as people use it from Python: a tiny model of random weights."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PIL")
from PIL import Image

import adapters
import slmkit
from slmkit.backends import images
from slmkit.engine.memory import cache_bytes, layout_of
from slmkit.errors import (
    CheckpointError,
    ContextExceeded,
    NotEnoughMemory,
    OptionError,
    RequestError,
    UnsupportedFeature,
    UnsupportedModel,
)
from slmkit.request import Message, as_messages
from slmkit.sources.find import open_source
from slmkit.weights.load import plan_weights
from vision_models import PREPROCESSOR, write_vision_model

IMAGES = Path(__file__).parents[1] / "data" / "images"
TABLE, LAND = IMAGES / "exceltable.png", IMAGES / "australia.jpg"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_vision_model(tmp_path_factory.mktemp("vision") / "model")


@pytest.fixture(scope="module")
def model(folder):
    with slmkit.load(folder, quantize="none") as loaded:
        yield loaded


def conversation(*parts: dict) -> list[dict]:
    return [{"role": "user", "content": list(parts)}]


def part(image) -> dict:
    return {"type": "image", "image": image}


def says(text: str) -> dict:
    return {"type": "text", "text": text}


def test_every_way_to_give_an_image_gives_the_same_answer(model):
    answers = [
        model.chat("what is it", images=[TABLE], max_tokens=4),
        model.chat("<|image_1|>\nwhat is it", images=[str(TABLE)], max_tokens=4),
        model.chat(conversation(part(TABLE.read_bytes()), says("what is it")), max_tokens=4),
        model.chat([Message("user", "what is it", (Image.open(TABLE),))], max_tokens=4),
        model.chat([{"role": "user", "content": "what is it", "images": [TABLE]}], max_tokens=4),
    ]
    assert len({answer.text for answer in answers}) == 1
    assert {answer.choices[0].usage.prompt_tokens for answer in answers} == {
        len(model.render([Message("user", "what is it", (TABLE,))]).ids)
    }


def test_the_prompt_has_each_chunk_with_its_own_beginning(model):
    prompt = model.render(conversation(says("see "), part(TABLE), says("and"), part(LAND)))
    assert prompt.text == "<|user|>\nsee <|image_1|>\nand<|image_2|>\n<|end|>\n<|assistant|>\n"
    assert [length for _, length, _ in prompt.images] == [457, 313]  # 1 x 2 crops, 1 x 1, and the whole
    ids = list(prompt.ids)
    first, second = prompt.images
    assert ids[0] == 1
    assert set(ids[first[0] : first[0] + first[1]]) == {-1}
    assert ids[first[0] + first[1]] == 1
    assert set(ids[second[0] : second[0] + second[1]]) == {-2}
    assert ids[second[0] + second[1]] == 1
    assert all(i >= 0 for i in ids[first[0] + first[1] : second[0]])


def test_images_change_answers_and_crops_change_tokens(model):
    def logprobs(image, **options):
        answer = model.chat("what", images=[image], max_tokens=2, logprobs=5, **options).choices[0]
        return answer.usage.prompt_tokens, [token.logprob for token in answer.tokens]

    one, again, other = logprobs(TABLE), logprobs(TABLE), logprobs(LAND)
    assert one == again
    assert one[1] != other[1]
    assert logprobs(TABLE, num_crops=1)[0] < one[0] < logprobs(TABLE, num_crops=16)[0]


def test_features_are_kept_across_the_turns_of_a_chat(model, monkeypatch):
    calls = []
    real = type(model.backend.loaded.model).features
    monkeypatch.setattr(
        type(model.backend.loaded.model), "features", lambda self, image: calls.append(image) or real(self, image)
    )
    image = Image.effect_noise((300, 300), 50)
    turns = [Message("user", "what", (image,))]
    for question in ("why", "how"):
        answer = model.chat(turns, max_tokens=2)
        turns += [Message("assistant", answer.text or "x"), Message("user", question)]
    assert len(calls) == 1


def test_a_tag_may_be_repeated_and_several_messages_count_on(model):
    turns = [Message("user", "a", (TABLE,)), Message("assistant", "b"), Message("user", "and <|image_1|>", ())]
    assert [which for _, _, which in model.render(turns).images] == [0, 0]
    turns = [Message("user", "a", (TABLE,)), Message("assistant", "b"), Message("user", "c", (LAND, TABLE))]
    assert model.render(turns).text.count("<|image_3|>") == 1


@pytest.mark.parametrize(
    ("text", "given", "message"),
    [
        ("<|image_1|> what", [], "none is given"),
        ("<|image_2|> what", [TABLE], "there is 1 image"),
        ("<|image_1|> what", [TABLE, LAND], r"no tag <\|image_2\|>"),
        ("<|image_1|><|image_3|>", [TABLE, LAND], "there are 2 images"),
        ("<|image_0|>", [TABLE], "there is 1 image"),
        ("<|image_99999999999999999999|>", [TABLE], "there is 1 image"),
        ("<|image_2|>", [TABLE, LAND], r"no tag <\|image_1\|>"),
    ],
)
def test_tags_that_do_not_match_the_images_are_refused(model, text, given, message):
    with pytest.raises(RequestError, match=message):
        model.chat(text, images=given)


def test_what_does_not_fit_the_context_is_refused_with_numbers(model):
    with pytest.raises(ContextExceeded, match=r"\d+ of them of images.*num_crops"):
        model.chat("what", images=[TABLE] * 3, num_crops=16)
    with pytest.raises(ContextExceeded, match="of images and max_tokens is 4000"):
        model.chat("what", images=[TABLE], max_tokens=4000)


def test_what_does_not_fit_in_memory_is_refused_with_numbers(model, monkeypatch):
    monkeypatch.setattr(images, "free_bytes", lambda: 5_000_000)
    with pytest.raises(NotEnoughMemory, match=r"need \d+ MB.*5 MB are free"):
        model.chat("what", images=[TABLE])


@pytest.fixture(scope="module")
def least(folder) -> int:
    """Bytes with which the model loads, and sees an image in its own two crops, with a context of 32."""
    source = open_source(str(folder))
    weights = plan_weights(source.tensors, source.expected, "none").n_bytes
    cache = cache_bytes(layout_of(source.config), 600, "f32")
    return weights + images.ImageRoom.least(source) + int(cache / 0.9) + 1000


def test_a_bound_of_memory_has_room_for_an_image_or_is_refused_with_numbers(folder, least):
    with slmkit.load(folder, quantize="none", ctx=600, memory=str(least)) as model:
        assert model.chat("what", images=[TABLE], max_tokens=2).text
    with pytest.raises(NotEnoughMemory, match=r"beside .* of weights and \d+\.\d MB for an image, and .* is free"):
        slmkit.load(folder, quantize="none", ctx=600, memory=str(least - 10_000))
    with pytest.raises(NotEnoughMemory, match="for an image"):
        slmkit.load(folder, quantize="none", memory="10MB")


def test_an_image_over_what_a_bound_leaves_is_refused_and_others_are_not(folder, least):
    with slmkit.load(folder, quantize="none", ctx=600, memory=str(least)) as model:
        wide = Image.new("RGB", (4000, 4000))
        with pytest.raises(
            NotEnoughMemory, match=rf"need 1\d\d MB .* \d+ MB are left of --memory {least} .*raise --memory"
        ):
            model.chat("what", images=[wide], num_crops=1)
        answers = {model.chat("what", images=[image], max_tokens=4).text for image in (TABLE, LAND, TABLE)}
        encoder = model.backend._worker._engine.encoder
        assert sum(rows.nbytes for rows in encoder._kept.values()) <= encoder.most_bytes < least // 4
    with slmkit.load(folder, quantize="none") as free:
        assert {free.chat("what", images=[image], max_tokens=4).text for image in (TABLE, LAND)} == answers


def test_an_image_and_an_adapter_go_together(folder, tmp_path):
    """The adapter changes the answer to an image, alone and beside requests of other kinds, and not what was seen."""
    adapter = adapters.write_for(tmp_path / "it", folder, 1)
    with slmkit.load(folder, quantize="none", adapters={"it": adapter}) as loaded:

        def answer(asked: tuple) -> list[float]:
            image, name = asked
            options = {"adapter": name, "max_tokens": 4, "logprobs": 1, "ignore_eos": True}
            answer = loaded.chat("what is it", images=[image] if image else (), **options)
            return [token.logprob for token in answer.choices[0].tokens]

        kinds = [(TABLE, "it"), (TABLE, "none"), (LAND, "it"), (None, "it"), (None, "none")]
        alone = [answer(kind) for kind in kinds]
        assert len({tuple(logprobs) for logprobs in alone}) == len(kinds)
        with ThreadPoolExecutor(len(kinds)) as pool:
            assert list(pool.map(answer, kinds)) == alone
    with slmkit.load(folder, quantize="none") as plain:
        options = {"max_tokens": 4, "logprobs": 1, "ignore_eos": True}
        found = plain.chat("what is it", images=[TABLE], **options)
        assert [token.logprob for token in found.choices[0].tokens] == alone[1]


def test_a_text_model_refuses_images_and_reads_tags_as_text():
    with slmkit.load("tiny") as tiny:
        with pytest.raises(UnsupportedFeature, match="reads text alone"):
            tiny.chat("what", images=[TABLE])
        assert "<|image_1|>" in tiny.render([Message("user", "<|image_1|>")]).text


@pytest.mark.parametrize(
    "content",
    [[{"type": "video"}], [3], [{"type": "text"}], [{"type": "image"}], [{"type": "image_url", "image_url": "x"}],
     [{"type": "image_url", "image_url": {"url": "/etc/passwd"}}],
     [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]],
)  # fmt: skip
def test_unknown_parts_and_urls_of_files_are_refused(content):
    with pytest.raises(RequestError, match="image"):
        as_messages([{"role": "user", "content": content}])


@pytest.mark.parametrize("given", ["a.png", b"abc", 3])
def test_images_are_a_list(given):
    with pytest.raises(RequestError, match="list"):
        Message("user", "x", given)


def test_a_url_of_this_machine_is_refused(model, folder):
    with pytest.raises(RequestError, match="private_urls"):
        model.chat("what", images=["http://127.0.0.1:9/a.png"])
    with slmkit.load(folder, offline=True) as loaded, pytest.raises(RequestError, match="offline"):
        loaded.chat("what", images=["http://127.0.0.1:9/a.png"])


def test_a_broken_image_ends_its_request_alone(model):
    with pytest.raises(RequestError, match=r"cut short|damaged"):
        model.chat("what", images=[LAND.read_bytes()[:90_000]])
    assert model.chat("what", images=[TABLE], max_tokens=1).choices[0].usage.completion_tokens == 1


def test_num_crops_is_an_option_within_bounds(model):
    with pytest.raises(OptionError, match="num_crops"):
        model.chat("what", images=[TABLE], num_crops=0)


def test_the_model_always_stops_at_its_own_ids(model):
    assert 2 in model.backend.loaded.stop_ids


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_img_tokens", 256), ("image_mean", [0.5, 0.5, 0.5]), ("image_processor_type", "Other"), ("surprise", 3)],
)
def test_another_preprocessor_is_refused(tmp_path, key, value):
    folder = write_vision_model(tmp_path / "m")
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR | {key: value}))
    with slmkit.load(folder) as loaded, pytest.raises(UnsupportedModel, match=key):
        loaded.chat("what", images=[TABLE])


def test_without_a_preprocessor_file_num_crops_is_asked_for(tmp_path):
    folder = write_vision_model(tmp_path / "m")
    (folder / "preprocessor_config.json").unlink()
    with slmkit.load(folder) as loaded:
        with pytest.raises(RequestError, match="num_crops"):
            loaded.chat("what", images=[TABLE])
        assert loaded.chat("what", images=[TABLE], num_crops=1, max_tokens=1)


@pytest.mark.parametrize("quantize", ["q4", "q8"])
def test_quantized_weights_run_and_keep_positions_as_they_are(folder, quantize):
    with slmkit.load(folder, quantize=quantize) as loaded:
        assert loaded.chat("what", images=[TABLE], max_tokens=2)
        tower = loaded.backend.loaded.model.tower
        stored = np.asarray(tower.position_embedding)
    with slmkit.load(folder, quantize="none") as plain:
        np.testing.assert_array_equal(stored, plain.backend.loaded.model.tower.position_embedding)


def test_a_table_stored_twice_is_accepted_only_if_both_are_equal(tmp_path):
    import vision_models
    from slmkit.models import phi3_vision

    folder = write_vision_model(tmp_path / "m")
    shapes = phi3_vision.expected_tensors(phi3_vision.Config.from_dict(vision_models.CONFIG))
    tensors = vision_models.random_tensors(shapes)
    wte = "model.vision_embed_tokens.wte.weight"
    table = tensors["model.embed_tokens.weight"]
    vision_models.write_safetensors(folder / "model.safetensors", tensors | {wte: table})
    with slmkit.load(folder) as loaded:
        assert loaded.describe()["parameters"] == sum(t.size for t in tensors.values())
    vision_models.write_safetensors(folder / "model.safetensors", tensors | {wte: table + 1})
    with pytest.raises(CheckpointError, match="wte"):
        slmkit.load(folder)


def test_a_model_that_sees_is_calibrated_on_text_and_keeps_its_tower_in_8_bits(folder, tmp_path):
    from slmkit.cli.main import main
    from slmkit.sources.find import open_source

    text = tmp_path / "text.txt"
    text.write_text("the cat saw the hat. " * 60)
    assert main(["quantize", str(folder), str(tmp_path / "packed"), "--calibrate", str(text), "-q"]) == 0
    matrices = json.loads(open_source(str(tmp_path / "packed")).tensors.metadata["slmkit.matrices"])
    formats = {name: entry[0] for name, entry in matrices.items()}
    assert {formats[name] for name in formats if "vision_embed" in name} == {"q8"}
    assert {formats[name] for name in formats if ".layers." in name and "vision" not in name} == {"q4_s"}
    assert not any("position_embedding" in name for name in formats)
    with slmkit.load(tmp_path / "packed") as loaded:
        assert loaded.chat("what", images=[TABLE], max_tokens=1)
