"""Rows: cleaning, filters, and the part that is held out."""

from __future__ import annotations

import dataclasses

import pytest

from slmkit.train import data
from slmkit.train.recipe import Source


def test_the_hold_out_is_stable_and_disjoint_and_of_about_the_asked_size(data_folder, small):
    source = Source("talks", 1.0)
    kept, held = data.parts(data_folder, source, small)
    assert (kept, held) == data.parts(data_folder, source, small)
    assert not set(kept) & set(held)
    assert len(kept) + len(held) == 200  # every third of 300 rows is French
    assert 0 < len(held) < 80  # a tenth is 20; the few distinct sentences recur, and all rows of one go together


def test_a_story_falls_on_one_side_in_whatever_row_it_is_told():
    for i in range(200):
        story = (
            f"A dog went out. It saw the moon and {i} stars, and then it went home again to sleep until the sun rose."
        )
        rows = [
            data.Row((("text", f"The dog\n\n{story}"),)),
            data.Row((("user", "Tell me a story called The dog"), ("assistant", story))),
            data.Row((("user", f"Give this story a title.\n\n{story}"), ("assistant", "The dog"))),
        ]
        assert len({data.is_held_out(row, 0.3) for row in rows}) == 1


def test_made_rows_that_are_held_out_were_not_trained_on(small, tmp_path):
    kept, held = data.parts(tmp_path, Source("made-talks", 1.0), small)
    assert held
    assert not set(kept) & set(held)


def test_made_rows_are_the_same_for_the_same_seed_only(tmp_path):
    source = Source("made-stories", 1.0)
    assert data.rows(tmp_path, source, 1)[:50] == data.rows(tmp_path, source, 1)[:50]
    assert data.rows(tmp_path, source, 1)[:50] != data.rows(tmp_path, source, 2)[:50]


def test_filters_keep_the_language_and_the_tasks_that_were_asked_for(data_folder):
    stories = data.rows(data_folder, Source("talks", 1.0, tasks=("story",)), 1)
    assert len(stories) == 100
    assert len(data.rows(data_folder, Source("talks", 1.0, lang="fr"), 1)) == 100
    with pytest.raises(data.DataError, match="loosen"):
        data.rows(data_folder, Source("talks", 1.0, lang="xx"), 1)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(data.DataError, match=r"texts\.jsonl\.xz does not exist"):
        data.rows(tmp_path, Source("texts", 1.0), 1)


def test_a_cut_file_is_refused(data_folder, tmp_path):
    whole = (data_folder / "texts.jsonl.xz").read_bytes()
    (tmp_path / "texts.jsonl.xz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(data.DataError, match="fetch it again"):
        data.rows(tmp_path, Source("texts", 1.0), 1)


def test_a_row_that_spells_a_special_token_is_left_out():
    raw = {"text": "He wrote <|end|> on the wall.", "source": "made", "lang": "en"}
    assert data.row_of(raw, Source("texts", 1.0)) is None
    assert data.row_of({**raw, "text": "He wrote."}, Source("texts", 1.0)) is not None


def test_cleaning_leaves_typewriter_marks_and_single_blanks():
    assert data.clean(" “Hello”  he said\u00a0– ‘yes’… \n\n\n\n ok ") == "\"Hello\" he said - 'yes'...\n\nok"


def test_the_simplest_rows_are_short_and_common_and_keep_their_order():
    easy = [data.Row((("text", "The dog ran. The cat sat. The dog sat."),))] * 3
    hard = [data.Row((("text", "Notwithstanding perspicacious jurisprudence, antediluvian epistemology prevailed."),))]
    assert data.simplest([easy[0], *hard, *easy[1:]], limit_bytes=3 * len(easy[0].text)) == easy


def test_sources_differ_in_nothing_but_what_changes_their_rows():
    assert data.made_version(Source("texts", 1.0)) == ""
    assert data.made_version(Source("made-talks", 1.0)) != ""
    assert dataclasses.replace(Source("texts", 1.0), share=2.0) != Source("texts", 1.0)
