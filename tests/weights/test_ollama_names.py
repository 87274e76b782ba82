import pytest

from slmkit.errors import RequestError
from slmkit.weights.ollama.names import Name

LIBRARY = ("registry.ollama.ai", "library")


@pytest.mark.parametrize(
    ("typed", "parts", "shortest"),
    [
        ("phi3", (*LIBRARY, "phi3", "latest"), "phi3"),
        ("phi3.5", (*LIBRARY, "phi3.5", "latest"), "phi3.5"),
        ("phi3:mini-128k", (*LIBRARY, "phi3", "mini-128k"), "phi3:mini-128k"),
        ("Phi3:Latest", (*LIBRARY, "Phi3", "Latest"), "Phi3"),
        ("ada/phi3:q8", ("registry.ollama.ai", "ada", "phi3", "q8"), "ada/phi3:q8"),
        ("library/phi3", (*LIBRARY, "phi3", "latest"), "phi3"),
        ("https://registry.ollama.ai/library/phi3", (*LIBRARY, "phi3", "latest"), "phi3"),
        ("hf.co/bartowski/Phi-3.5-mini-instruct-GGUF:Q4_K_M",
         ("hf.co", "bartowski", "Phi-3.5-mini-instruct-GGUF", "Q4_K_M"),
         "hf.co/bartowski/Phi-3.5-mini-instruct-GGUF:Q4_K_M"),
        ("localhost:5000/library/phi3", ("localhost:5000", "library", "phi3", "latest"), "localhost:5000/library/phi3"),
        ("localhost:5000/a/b:c", ("localhost:5000", "a", "b", "c"), "localhost:5000/a/b:c"),
        ("_a/_b:_c", ("registry.ollama.ai", "_a", "_b", "_c"), "_a/_b:_c"),
    ],
)  # fmt: skip
def test_missing_parts_are_filled_in_and_left_out_again(typed, parts, shortest):
    name = Name.parse(typed)
    assert name.parts == parts
    assert str(name) == shortest
    assert [part.lower() for part in Name.parse(shortest).parts] == [part.lower() for part in parts]


@pytest.mark.parametrize("length", [80, 81])
def test_a_part_has_at_most_80_characters(length):
    if length == 80:
        assert Name.parse("m" * length).model == "m" * length
    else:
        with pytest.raises(RequestError, match=r"is no model of a name"):
            Name.parse("m" * length)


@pytest.mark.parametrize(
    "typed",
    ["", ":", "phi3:", ":latest", "/phi3", "a//phi3", "a/b/c/d", "..", "../phi3", "a/../phi3", "phi3:..", "phi3:.a",
     "../../etc/passwd", "..\\phi3", "a/b\\c", ".hidden", "-x", "phi 3", "phi3\n", "phi3\0", "phí3", "٣", "a.b/phi3",
     "phi3:a:b", "phi3@sha256", "a" * 100_000, "file:///etc/passwd"],
)  # fmt: skip
def test_what_could_lead_elsewhere_is_no_name(typed):
    with pytest.raises(RequestError, match=r"ollama-store:\[host/\]\[namespace/\]model\[:tag\]") as refused:
        Name.parse(typed)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("typed", ["", " "])
def test_a_prefix_with_nothing_behind_it_is_called_that(typed):
    with pytest.raises(RequestError, match=r"^ollama-store: has no name behind it; .*`slm list`"):
        Name.parse(typed)
