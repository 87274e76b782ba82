"""Prompts kept on the disk, as a user meets them."""

from __future__ import annotations

import json

PROMPT = "Once upon a time there was a fox who lived in a wood with many other animals. " * 4
GREEDY = ("--temperature", "0", "--max-tokens", "8")


def test_the_second_run_says_what_it_did_not_read(real_slm, places, tmp_path):
    file = str(tmp_path / "x.cache")
    first, second = (
        json.loads(real_slm("run", "tiny", PROMPT, "--json", "--prompt-cache", file, *GREEDY).out) for _ in range(2)
    )
    assert first["text"] == second["text"]
    assert (first["usage"]["cached_tokens"], second["usage"]["cached_tokens"]) == (0, 64)
    done = real_slm("complete", "tiny", PROMPT, "--stats", "--prompt-cache", file, *GREEDY)
    assert "of them cached" not in done.err  # another prompt: it has no template around it
    done = real_slm("complete", "tiny", PROMPT, "--stats", "--prompt-cache", file, *GREEDY)
    assert "(64 of them cached)" in done.err


def test_a_file_of_something_else_is_one_sentence(real_slm, places, tmp_path):
    file = tmp_path / "letter.txt"
    file.write_text("Dear Ada")
    real_slm("run", "tiny", PROMPT, "--prompt-cache", str(file)).fails(2, "name another file, or remove this one")
    real_slm("run", "tiny", PROMPT, "--prompt-cache", str(tmp_path)).fails(2, "not a regular file")
    real_slm("run", "tiny", PROMPT, "--prompt-cache", str(tmp_path / "no" / "x")).fails(5, "there is no folder")
    assert file.read_text() == "Dear Ada"


def test_a_file_of_another_cache_type_names_both(real_slm, places, tmp_path):
    file = str(tmp_path / "x.cache")
    real_slm("run", "tiny", PROMPT, "--prompt-cache", file, *GREEDY)
    real_slm("run", "tiny", PROMPT, "--prompt-cache", file, "--cache", "q8").fails(
        2, "it is of 'tiny, q8, cache f16', this is 'tiny, q8, cache q8'"
    )


def test_bench_measures_reading_and_takes_no_prompt_cache(real_slm, places, tmp_path):
    real_slm("bench", "tiny", "--prompt-cache", str(tmp_path / "x")).fails(2, "--prompt-cache is not an option")


def test_kept_system_prompts_are_listed_and_removed(real_slm, places):
    folder = places.cache / "prompts"
    assert real_slm("rm", "--prompts", "--yes").out == "there is no kept system prompt\n"
    folder.mkdir(parents=True)
    for name in "ab":
        (folder / f"{name * 64}.safetensors").write_bytes(bytes(3_000_000))
    (folder / "notes.txt").write_text("not ours")
    assert "2 system prompts kept for the next run, 6.0 MB; `slm rm --prompts` makes room" in real_slm("list").out
    assert json.loads(real_slm("list", "--json").out)["prompts"] == {
        "path": str(folder), "files": 2, "n_bytes": 6_000_000
    }  # fmt: skip
    real_slm("rm", "--prompts", "tiny", "--yes").fails(2, "leave MODEL and --packed out")
    real_slm("rm", "--prompts").fails(2, "2 system prompts, 6.0 MB", "--yes does it")
    assert real_slm("rm", "--prompts", "--yes").out == "removed 2 system prompts: 6.0 MB freed\n"
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    assert "kept" not in real_slm("list").out
