"""What all fuzz targets share: seeds, a dictionary and the loop of libFuzzer. Run by `make fuzz`.

Inputs that reach new code are kept in .fuzz/NAME, and are the start of the next run. An input that fails is
written to .fuzz/NAME-crash-...; `python -m tests.fuzz.NAME FILE` repeats it.
"""

import logging
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import atheris

DIRECTORY = Path(__file__).parents[2] / ".fuzz"


def fuzz(
    name: str, one: Callable[[bytes], None], seeds: Iterable[bytes], words: Iterable[str] = ()
) -> None:
    """Call ``one`` with inputs made from the seeds and the words; arguments are those of libFuzzer."""
    logging.disable(logging.CRITICAL)
    corpus = DIRECTORY / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [f"-artifact_prefix={DIRECTORY / name}-"]
    if lines := [f'"{_escaped(word)}"\n' for word in words]:
        dictionary = DIRECTORY / f"{name}.dict"
        dictionary.write_text("".join(lines))
        options.append(f"-dict={dictionary}")
    files = [each for each in sys.argv[1:] if not each.startswith("-")]
    atheris.Setup([*sys.argv, *options, *([] if files else [str(corpus)])], one)
    atheris.Fuzz()


def _escaped(word: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word.encode())
