"""Tokenizers that would take more time or memory than a tokenizer needs are refused; published ones are not."""

from __future__ import annotations

import copy

import pytest
from text_data import VARIANTS, phi3_spec, small_spec

from slmkit.errors import TokenizerError
from slmkit.text import sentencepiece
from slmkit.text.bounds import LONGEST_PIECE, MOST_ADDED, MOST_MERGES, MOST_PIECES, check_added, check_tokenizer
from slmkit.text.patterns import is_tame
from slmkit.text.pretokenizers import PRETOKENIZERS
from slmkit.text.tokenizer import Tokenizer

PUBLISHED = [step for kind in PRETOKENIZERS.values() for step in kind.steps]
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
POSSESSIVE = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s+"


@pytest.mark.parametrize("name", VARIANTS)
def test_the_published_tokenizers_are_within_bounds(name):
    check_tokenizer(phi3_spec(name))


@pytest.mark.parametrize(
    "pattern", [*PUBLISHED, QWEN, POSSESSIVE, r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", "", " ", r"(?i:a|b)?"]
)
def test_the_patterns_of_published_tokenizers_are_tame(pattern):
    assert is_tame(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$", "(a|a)*", "(a|a)+", "(a*)*", "(?:a+)+", "(a?){30}a{30}", "(a){2}", "((a+)?)+", "a?a?a?a?a?a?a?a?a?a",
        "a*a*a*b", r"\s*\s*\s*x", r"(a)\1", r"\k<x>", r"(?<x>a)", r"\g<x>", "(?<=a)b", "(?<!a)b", "(?R)", "(?(1)a|b)",
        "a{1000}", "a{1,1000}", "a**", "a{2}{2}", "*a", "(*a)", "(", ")", "(a", "a)", "[a", "[a-[b]]", "\\", r"\1",
        "(" * 9 + ")" * 9, "a" * 4097, "(?i", "(?i)a", "[[:alpha:]]", r"\p{L", "(a+|b+)c*",
    ],
)  # fmt: skip
def test_a_pattern_that_may_take_for_ever_is_not_tame(pattern):
    assert not is_tame(pattern)


def with_normalizers(*steps):
    return {**small_spec(), "normalizer": {"type": "Sequence", "normalizers": list(steps)}}


def replacing(pattern, content):
    return {"type": "Replace", "pattern": pattern, "content": content}


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        (with_normalizers(*[replacing({"String": "a"}, "aa")] * 7), "64 times longer"),
        (with_normalizers(replacing({"String": "a"}, "a" * 65)), "64 times longer"),
        (with_normalizers(*[{"type": "NFKC"}] * 2), "64 times longer"),
        (with_normalizers(replacing({"Regex": "a"}, "")), "replaces by a regular expression"),
        (with_normalizers(replacing({"String": ""}, "a")), "replaces by a regular expression"),
        (with_normalizers(*[{"type": "Lowercase"}] * 33), "more than 32 normalizers"),
        (with_normalizers({"type": "Precompiled"}), "the normalizer 'Precompiled'"),
        (with_normalizers({"type": "Prepend", "prepend": "a" * 70_000}), "a normalizer of over 65536 characters"),
        ({**small_spec(), "pre_tokenizer": {"type": "Evil"}}, "the pre-tokenizer 'Evil'"),
        ({**small_spec(), "post_processor": ["x"] * 30_000}, "a post_processor of over"),
        ({**small_spec(), "decoder": ["x"] * 30_000}, "a decoder of over"),
        ({**small_spec(), "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+$"}}}, r"'\(a\+\)\+\$', which"),
    ],
)
def test_steps_that_explode_are_refused_by_name(spec, match):
    with pytest.raises(TokenizerError, match=match):
        Tokenizer(spec)


def test_growth_up_to_64_times_is_accepted():
    check_tokenizer(with_normalizers(*[replacing({"String": "a"}, "aa")] * 6))
    check_tokenizer(with_normalizers(replacing({"String": "aa"}, "a" * 128)))


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("vocab", dict.fromkeys(map(str, range(MOST_PIECES + 1)), 0), "524289 pieces"),
        ("vocab", {"x" * (LONGEST_PIECE + 1): 0}, "a piece of 1025 characters"),
        ("merges", ["a b"] * (MOST_MERGES + 1), "1048577 merges"),
        ("continuing_subword_prefix", "x" * 5000, "characters of settings"),
    ],
)
def test_a_vocabulary_beyond_any_published_one_is_refused(key, value, match):
    spec = copy.deepcopy(small_spec())
    spec["model"][key] = value
    with pytest.raises(TokenizerError, match=match):
        check_tokenizer(spec)


def test_added_tokens_have_their_bounds():
    check_added(["x"] * MOST_ADDED)
    for texts in (["x"] * (MOST_ADDED + 1), ["x" * (LONGEST_PIECE + 1)], ["x" * LONGEST_PIECE] * 257):
        with pytest.raises(TokenizerError, match=r"added token"):
            check_added(texts)


def test_sentencepiece_pieces_are_cut_in_a_bounded_number_of_places():
    many = [(f"{i:01024}", 0.0, sentencepiece.NORMAL) for i in range(4097)]
    with pytest.raises(TokenizerError, match="more than 4194304 characters"):
        sentencepiece.merges(many)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"\x0a\x81\x20" + bytes(4097), "a piece of 4097 bytes"),
        (b"\x78\0" * (2**19 + 2**16 + 1), "more than 589824 fields"),
        (b"\x12\x82\x80\x08" + b"\x78\0" * (2**16 + 1), "more than 65536 fields"),
    ],
)
def test_a_sentencepiece_model_of_too_many_fields_is_refused(data, match):
    with pytest.raises(TokenizerError, match=match):
        sentencepiece.parse(data)
