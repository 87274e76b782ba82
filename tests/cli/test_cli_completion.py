"""The completion scripts, run by the shells they are for."""

import shutil
import subprocess
import sys
from pathlib import Path

import fake_slm
import pytest

from slmkit.cli.main import VERBS


@pytest.fixture
def script(slm_process):
    return lambda shell: slm_process("completion", shell).stdout.decode()


@pytest.fixture
def bash(script, tmp_path):
    """bash(line): what bash offers at the end of the line, in a folder with folder/ and file.txt."""
    shell = shutil.which("bash")
    if shell is None:
        pytest.skip("bash is not installed")
    (tmp_path / "slm.bash").write_text(script("bash"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.txt").touch()
    # As readline would call it: words split at spaces and, with the usual COMP_WORDBREAKS, around `=`.
    ask = """source slm.bash
COMP_LINE=$1 COMP_WORDS=() COMP_CWORD=-1
for word in ${1//=/ = }; do COMP_WORDS+=("$word"); done
[[ $1 == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
complete -p slm >&2
_slm
printf '%s\\n' "${COMPREPLY[@]}"
"""

    def offers(line: str) -> list[str]:
        done = subprocess.run([shell, "--norc", "-c", ask, "bash", line], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0
        assert done.stderr == "complete -o bashdefault -o default -F _slm slm\n"
        return [word.rstrip() for word in done.stdout.splitlines() if word]

    return offers


def test_bash_offers_verbs(bash):
    assert set(bash("slm ")) == {*VERBS, "--help", "--version"}
    assert bash("slm comp") == ["complete", "compare", "completion"]


def test_bash_offers_the_flags_of_the_verb(bash):
    assert bash("slm run --max") == ["--max-tokens"]
    assert bash("slm render tiny hi --max") == []
    assert {"--json", "--system", "--threads", "-n", "--no-ignore-eos"} <= set(bash("slm run -"))


def test_bash_offers_choices(bash):
    assert bash("slm run tiny --quantize ") == ["q4", "q8", "none"]
    assert bash("slm run tiny --quantize=") == ["q4", "q8", "none"]
    assert bash("slm run tiny --quantize=q") == ["q4", "q8"]
    assert bash("slm completion ") == ["bash", "zsh", "fish", "folder/"]


def test_bash_offers_models_and_folders_in_first_place_and_leaves_files_to_readline(bash):
    assert bash("slm run ") == ["tiny", "folder/"]
    assert bash("slm run fo") == ["folder/"]
    assert bash("slm run tiny fi") == []
    assert bash("slm run tiny --max-tokens ") == []


def test_bash_itself_completes_a_typed_line(script, tmp_path):
    pexpect = pytest.importorskip("pexpect")
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    (tmp_path / "slm.bash").write_text(script("bash"))
    child = pexpect.spawn(
        "bash --norc --noprofile", cwd=tmp_path, encoding="utf-8", timeout=20, env={"PS1": "$ ", "PATH": ""}
    )
    child.sendline("slm() { echo \"<$*>\"; }; source ./slm.bash; echo re''ady")
    child.expect("ready\r\n")
    child.send("slm tok\tti\t--spe\thello\n")
    child.expect("<tokenize tiny --specials hello>")
    child.close(force=True)


def test_zsh_completes_a_typed_line(script, tmp_path):
    pexpect = pytest.importorskip("pexpect")
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed")
    (tmp_path / "slm.zsh").write_text(script("zsh"))
    child = pexpect.spawn("zsh -f", cwd=tmp_path, encoding="utf-8", timeout=20)
    child.sendline("autoload -U compinit; compinit -u -D; source ./slm.zsh; slm() { echo \"<$*>\"; }; echo re''ady")
    child.expect("ready\r\n")
    child.send("slm tok\tti\t--spe\thello\n")
    child.expect("<tokenize tiny --specials hello>")
    child.send("slm run tiny --quantize=no\thello\n")
    child.expect("<run tiny --quantize=none hello>")
    child.close(force=True)


def test_fish_offers_the_same(script, tmp_path):
    shell = shutil.which("fish")
    if shell is None:
        pytest.skip("fish is not installed")
    (tmp_path / "slm.fish").write_text(script("fish"))

    def offers(line: str) -> list[str]:
        ask = ["--no-config", "-c", 'source slm.fish; complete -C "$argv"', line]
        done = subprocess.run([shell, *ask], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return [word.split("\t")[0] for word in done.stdout.splitlines()]

    assert set(offers("slm ")) == set(VERBS)
    assert offers("slm run --max") == ["--max-tokens"]
    assert offers("slm render tiny --max") == []
    assert offers("slm run tiny --quantize ") == ["none", "q4", "q8"]
    assert "tiny" in offers("slm run ")


def test_every_flag_of_every_verb_is_in_each_script(script):
    scripts = {shell: script(shell) for shell in ("bash", "zsh", "fish")}
    for verb in VERBS:
        shown = subprocess.run(
            [sys.executable, str(Path(fake_slm.__file__)), verb, "--help"], capture_output=True, text=True
        ).stdout
        flags = {word.strip("[,]") for word in shown.split() if word.strip("[,]").startswith("--")}
        for flag in flags - {"--"}:
            for shell, text in scripts.items():
                assert flag in text or f"-l {flag[2:]} " in text, (shell, verb, flag)
