"""`pagedkv generate` on a tiny model."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

from safetensors.torch import load_file, save_file

from pagedkv.cli.output import printable
from pagedkv.recording import read_run
from tests.cli.conftest import Pagedkv
from tests.models import tiny

GREEDY = ("--temperature", 0, "--device", "cpu")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing asks the Hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model with a tokenizer of bytes."""
    path = tiny.save(tiny.config("llama"), tmp_path_factory.mktemp("models") / "texts")
    tiny.save_tokenizer(path)
    return path


@pytest.fixture(scope="module")
def wordless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model without a tokenizer."""
    return tiny.save(tiny.config("llama"), tmp_path_factory.mktemp("models") / "wordless")


def told(pagedkv: Pagedkv, *arguments: object) -> dict[str, Any]:
    """What the command says with --json."""
    found = pagedkv("generate", "--model", *arguments, "--json", *GREEDY)
    assert (found.code, found.stderr) == (0, "")
    values: dict[str, Any] = json.loads(found.stdout)
    return values


def first(values: dict[str, Any]) -> dict[str, Any]:
    """The first completion of the first request."""
    completion: dict[str, Any] = values["requests"][0]["outputs"][0]
    return completion


def test_as_a_process(folder: Path) -> None:
    """`python -m pagedkv generate` answers, says what was measured, and leaves stderr to errors."""
    command = [sys.executable, "-m", "pagedkv", "generate", "--model", str(folder), "--prompt", "Hello there"]
    found = subprocess.run(
        [*command, "--stats", "--temperature", "0", "--device", "cpu"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        env={"PYTHONUTF8": "1", "HF_HUB_OFFLINE": "1"},
    )

    assert (found.returncode, found.stderr) == (0, "")
    text, _, table = found.stdout.partition("\nengine\n")
    rows = dict(line.rsplit(maxsplit=1) for line in table.splitlines())
    assert text
    assert rows["requests"] == "1"
    assert rows["prompt tokens computed"] == str(len("Hello there"))
    assert rows["tokens generated"] == "16"


def test_a_single_answer_is_told_as_it_comes(pagedkv: Pagedkv, folder: Path) -> None:
    """The text of the stream is that of the JSON object."""
    whole = first(told(pagedkv, folder, "--prompt", "Hi", "--max-tokens", 9))
    found = pagedkv("generate", "--model", folder, "--prompt", "Hi", "--max-tokens", 9, *GREEDY)

    assert len(whole["token_ids"]) == 9
    shown = (each if each in "\n\t" else printable(each) for each in whole["text"])
    assert found == (0, "".join(shown) + "\n", "")


def test_tokens_without_a_tokenizer(pagedkv: Pagedkv, wordless: Path, folder: Path) -> None:
    """Token ids work without a tokenizer, and give the tokens that the text gives with one."""
    token_ids = told(pagedkv, folder, "--prompt", "Hi")["requests"][0]["prompt_token_ids"]
    given = ("--token-ids", ",".join(map(str, token_ids)))
    found = pagedkv("generate", "--model", wordless, *given, *GREEDY)

    expected = first(told(pagedkv, folder, "--prompt", "Hi"))["token_ids"]
    assert found == (0, " ".join(map(str, expected)) + "\n", "")
    assert first(told(pagedkv, wordless, *given)) == {
        "index": 0,
        "text": "",
        "token_ids": expected,
        "finish_reason": "length",
    }


def test_prompts_of_all_kinds(pagedkv: Pagedkv, folder: Path, tmp_path: Path) -> None:
    """Texts, lines of files and token ids are answered in their order."""
    lines = tmp_path / "lines"
    lines.write_text("one\n\ntwo\n")
    given = ("--prompt", "a", "--prompt-file", lines, "--token-ids", "1,2", "--prompt", "z")
    found = told(pagedkv, folder, *given, "--max-tokens", 3)["requests"]

    assert [each["prompt"] for each in found] == ["a", "one", "two", None, "z"]
    assert found[3]["prompt_token_ids"] == [1, 2]
    shown = pagedkv("generate", "--model", folder, *given, "--max-tokens", 3, *GREEDY).stdout
    marks = [line for line in shown.splitlines() if line.startswith("> ")]
    assert marks == ["> a", "> one", "> two", "> 1,2", "> z"]


def test_beams_and_samples(pagedkv: Pagedkv, wordless: Path) -> None:
    """Several completions have their numbers."""
    given = (wordless, "--token-ids", "1,2,3", "--max-tokens", 5)
    beams = told(pagedkv, *given, "--beams", 4, "--n", 2)["requests"][0]["outputs"]
    assert beams[0]["cumulative_logprob"] > beams[1]["cumulative_logprob"]

    samples = pagedkv("generate", "--model", *given, "--n", 3, "--seed", 7, "--device", "cpu").stdout
    assert [line[:3] for line in samples.splitlines() if line.startswith("[")] == ["[0]", "[1]", "[2]"]
    assert pagedkv("generate", "--model", *given, "--n", 3, "--seed", 7, "--device", "cpu").stdout == samples


def test_stats_and_logprobs(pagedkv: Pagedkv, wordless: Path) -> None:
    """Both are in the JSON object where they are asked for, and there is no NaN in it."""
    values = told(pagedkv, wordless, "--token-ids", "5", "--max-tokens", 1, "--logprobs", 2, "--stats")

    entry = first(values)["logprobs"][0]
    assert entry["token_id"] == first(values)["token_ids"][0] == entry["top"][0][0]
    assert len(entry["top"]) == 2
    assert values["stats"]["num_finished"] == 1
    assert values["stats"]["inter_token_p50_s"] is None  # a single token has no gap behind it


def test_settings_of_the_engine(pagedkv: Pagedkv, wordless: Path) -> None:
    """A tiny pool, small steps and no prefix cache give the same tokens."""
    prompt = ",".join(map(str, range(1, 40)))
    given = (wordless, "--token-ids", prompt, "--token-ids", prompt, "--stats")
    tight = (
        "--num-blocks", 10, "--block-size", 8, "--batch-tokens", 7, "--max-running", 3, "--no-prefix-caching"
    )  # fmt: skip
    usual, small = told(pagedkv, *given), told(pagedkv, *given, *tight)

    assert first(small)["token_ids"] == first(usual)["token_ids"]
    assert small["stats"]["num_blocks"] == 10
    assert small["stats"]["num_steps"] > usual["stats"]["num_steps"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "there is no prompt: give --prompt TEXT"),
        (("--prompt", "x"), "the model has no tokenizer; give the prompt as a list of token ids"),
        (("--prompt", ""), "the model has no tokenizer"),
        (("--token-ids", "1", "--stop", "x"), "stop_token_ids work without"),
        (("--token-ids", "1,257"), "token 257 at position 1 of the prompt is not in the model's vocabulary"),
        (("--token-ids", ",".join("7" * 300)), "the prompt has 300 tokens, and the model takes 256"),
        (("--token-ids", "1", "--max-model-len", "999"), "max_model_len is 999, and the model has positions"),
        (("--token-ids", "1", "--temperature", "-1"), "temperature is -1.0; it must be a finite number"),
        (("--token-ids", "1", "--top-p", "0"), "top_p is 0"),
        (("--token-ids", "1", "--beams", "2", "--n", "3"), "a search has no more results than beams"),
        (("--token-ids", "1", "--max-tokens", "0"), "max_tokens is 0"),
        (("--token-ids", "1", "--dtype", "int4"), "dtype is 'int4'"),
        (("--token-ids", "1", "--device", "abacus"), "device is 'abacus'"),
        (("--token-ids", "1", "--block-size", "8"), "--block-size and --no-prefix-caching need --num-blocks"),
        (("--token-ids", "1,1,1,1,1", "--num-blocks", "1", "--block-size", "4"), "blocks"),
        (("--token-ids", "1", "--num-blocks", "2147483647"), "would fit"),
    ],
)
def test_what_cannot_work(pagedkv: Pagedkv, wordless: Path, arguments: tuple[str, ...], message: str) -> None:
    """It is one line on stderr, with the numbers, and exit code 2."""
    refuses(pagedkv, (wordless, *arguments), message)


def refuses(pagedkv: Pagedkv, arguments: tuple[object, ...], message: str) -> None:
    """The command says this on stderr and nothing else."""
    found = pagedkv("generate", "--model", *arguments)
    assert (found.code, found.stdout) == (2, "")
    assert message in found.stderr
    assert found.stderr.startswith("pagedkv: ")
    assert found.stderr.count("\n") == 1


def test_wrong_words(pagedkv: Pagedkv, folder: Path, tmp_path: Path) -> None:
    """Words that are no token ids, and files without prompts, are named with exit code 2."""
    empty = tmp_path / "empty"
    empty.write_text("\n \n")
    for arguments, message in (
        (("--token-ids", "1;2"), "'1;2' is not token ids, such as 1,2,3"),
        (("--prompt-file", tmp_path / "none"), "cannot be read: No such file or directory"),
        (("--prompt-file", empty), "there is no prompt in it"),
    ):
        found = pagedkv("generate", "--model", folder, *arguments)
        assert (found.code, found.stdout) == (2, "")
        assert message in found.stderr


def test_models_that_cannot_be_served(pagedkv: Pagedkv, wordless: Path, tmp_path: Path) -> None:
    """A folder that is not there, one without weights or without some, and an unknown architecture."""
    given = ("--token-ids", "1")
    refuses(pagedkv, (tmp_path / "none", *given), "there is no folder")
    config = json.loads((wordless / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config))
    refuses(pagedkv, (tmp_path, *given), "has a config.json and no weights")

    weights = load_file(wordless / "model.safetensors")
    save_file(
        {name: each for name, each in weights.items() if "norm" not in name},
        tmp_path / "model.safetensors",
        metadata={"format": "pt"},
    )
    refuses(pagedkv, (tmp_path, *given), "weights that LlamaForCausalLM has")

    changed = {"model_type": "bloom", "architectures": ["BloomForCausalLM"]}
    (tmp_path / "config.json").write_text(json.dumps(config | changed))
    refuses(pagedkv, (tmp_path, *given), "bloom")


def test_help_names_the_older_spelling(pagedkv: Pagedkv) -> None:
    """Whoever looks for traces is told where they went."""
    assert "pagedkv workload PRESET" in pagedkv("generate", "--help").stdout


def test_record(pagedkv: Pagedkv, wordless: Path, tmp_path: Path) -> None:
    """With `--record` the run of the engine goes into a file."""
    path = tmp_path / "RUN.json"

    values = told(pagedkv, wordless, "--token-ids", "1,2,3", "--max-tokens", 5, "--record", path)

    record = read_run(path)
    assert record.about == {"mode": "generate", "model": str(wordless)}
    assert record.steps.total("num_sampled") == len(first(values)["token_ids"])
    assert record.distributions["ttft_ns"].count == 1
