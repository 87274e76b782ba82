"""Images in prompts: tags, numbers, and the ids that Phi-3-vision was fed."""

from __future__ import annotations

import pytest
from text_data import phi3_tokenizer

from slmkit.errors import RequestError
from slmkit.request import Message
from slmkit.text.added import Piece
from slmkit.text.image_tags import split_at_tags, tagged
from slmkit.text.known import VISION
from slmkit.text.prompt import chat_prompt
from slmkit.text.template import ChatTemplate


def ids_of(messages: list[Message], image_tokens: list[int]) -> list[int]:
    placed, _ = tagged(messages)
    prompt = chat_prompt(placed, ChatTemplate(VISION), phi3_tokenizer("phi-3-vision"), image_tokens=image_tokens)
    return list(prompt.ids)


def test_the_published_example_has_the_published_ids():
    """Every chunk begins with <s> and its own first space: really, this is what the model was fed."""
    ids = ids_of([Message("user", "What is shown in this image?", ("a",))], [5])
    text = [1, 29871, 13, 5618, 338, 4318, 297, 445, 1967, 29973, 32007, 29871, 13, 32001]
    assert ids == [1, 32010, 29871, 13, *[-1] * 5, *text]


def test_without_an_image_the_prompt_is_one_chunk():
    assert ids_of([Message("user", "Hi")], []) == [1, 32010, 29871, 13, 18567, 32007, 29871, 13, 32001]


def test_images_of_several_messages_have_numbers_of_their_own():
    placed, images = tagged([Message("user", "x", ("a", "b")), Message("assistant", "y"), Message("user", "z", ("c",))])
    assert [m.content for m in placed] == ["<|image_1|>\n<|image_2|>\nx", "y", "<|image_3|>\nz"]
    assert images == ["a", "b", "c"]
    ids = ids_of(placed, [2, 3, 4])
    assert [ids.count(-n) for n in (1, 2, 3)] == [2, 3, 4]


def test_tags_in_a_message_say_where_its_images_stand():
    placed, _ = tagged([Message("user", "of <|image_2|> and <|image_1|>, and <|image_2|> again", ("a", "b"))])
    assert placed[0].content.startswith("of <|image_2|>")
    ids = ids_of(placed, [2, 3])
    order = [i for n, i in enumerate(ids) if i < 0 and ids[n - 1] != i]
    assert order == [-2, -1, -2]


@pytest.mark.parametrize("content", ["<|image_1|", "<|image_|>", "<|image_x|>", "<|IMAGE_1|>", "<| image_1|>"])
def test_what_is_no_tag_is_text(content):
    assert tagged([Message("user", content)])[0][0].content == content


def test_a_message_without_a_tag_beside_one_with_all_of_them_is_refused_or_counted():
    with pytest.raises(RequestError, match="there is 1 image"):
        tagged([Message("user", "<|image_2|>", ("a",))])
    placed, _ = tagged([Message("user", "<|image_1|>", ("a",)), Message("user", "and", ("b",))])
    assert placed[1].content == "<|image_2|>\nand"


def test_pieces_keep_their_trust_when_they_are_split():
    chunks, images = split_at_tags(
        [Piece("<|user|>\n", True), Piece("a<|image_2|>b<|image_1|>", False), Piece("c", True)]
    )
    assert images == [1, 0]
    assert chunks == [
        [Piece("<|user|>\n", True), Piece("a", False)],
        [Piece("b", False)],
        [Piece("", False), Piece("c", True)],
    ]


def test_typed_control_tokens_stay_text_beside_images():
    ids = ids_of([Message("user", "<|end|>", ("a",))], [1])
    assert ids.count(32007) == 1
