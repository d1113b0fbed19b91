"""The command `selfsup`: which verbs there are, and how a run of one ends."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cyclopts import App, CycloptsError, Parameter
from cyclopts.exceptions import (
    MissingArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

import selfsup
from selfsup.cli import (
    autoencoder_commands,
    autoencoder_study_commands,
    autoencoder_training,
    commands,
    corpus_commands,
    decoder_commands,
    detect_commands,
    generation_commands,
    glue_command,
    study_commands,
    task_commands,
)
from selfsup.data.paths import PIPE, PIPE_MEND
from selfsup.errors import NO_SPACE, Interrupted, UserError, nearest, silence, unheard, visible

if TYPE_CHECKING:
    from pydantic import BaseModel

app = App(
    name="selfsup",
    help="Pre-train on your own data, find out whether it paid, and put the model to use.",
    help_format="plaintext",  # markdown would cost a third of the time that help takes
    help_epilogue="MODEL is a run folder, a model folder, or a hub name.",
    version=selfsup.__version__,
    version_flags=["--version"],
    default_parameter=Parameter(show_default=False),
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # `main` says it and chooses the exit code
)
_tokenizer = App(name="tokenizer", help="Train a tokenizer.")
_data = App(name="data", help="Look at a corpus.")
_config = App(name="config", help="Show and describe configurations.")
_detect = App(name="detect", help="Find rows or images unlike those of training.")
_study = App(name="study", help="Answer a question about pre-training by an experiment.")

for _verb in (
    commands.demo,
    commands.recipes,
    commands.pretrain,
    task_commands.finetune,
    task_commands.predict,
    task_commands.evaluate,
    glue_command.glue,
    decoder_commands.fewshot,
    decoder_commands.judge,
    commands.fill,
    commands.embed,
    autoencoder_commands.encode,
    autoencoder_commands.decode,
    autoencoder_commands.reconstruct,
    autoencoder_commands.sample,
    autoencoder_commands.interpolate,
    autoencoder_commands.traverse,
    autoencoder_commands.cluster,
    generation_commands.generate,
    generation_commands.export,
    commands.info,
    commands.runs,
    commands.doctor,
):
    app.command(_verb)
for _group in (_tokenizer, _data, _config, _detect, _study):
    app.command(_group)
_tokenizer.command(corpus_commands.train_tokenizer, name="train")
_data.command(corpus_commands.stats)
_config.command(commands.show_config, name="show")
_config.command(commands.config_schema, name="schema")
_study.command(commands.next_sentence, name="next-sentence")
_study.command(study_commands.alphabets, name="alphabets")
_study.command(study_commands.curves)
_study.command(study_commands.contexts)
_study.command(detect_commands.capacity)
_study.command(autoencoder_study_commands.dimensions)
_study.command(autoencoder_study_commands.codebook)
_study.command(autoencoder_study_commands.denoising)
_detect.command(detect_commands.fit)
_detect.command(detect_commands.score)
_study.command(study_commands.in_context, name="in-context")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: the words after `selfsup`; those of this process when not given.

    Returns:
        The exit code: 0 good, 2 bad input, 130 interrupted, 1 a defect of ours.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    _prepare_streams()
    try:
        with _interrupted_by_sigterm():
            app(_with_settings(given), exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except UserError as error:
        return _refuse(str(error))
    except CycloptsError as error:
        return _refuse(_usage(error))
    except Interrupted as stop:
        _say(str(stop) or "interrupted")
        return 130
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except BrokenPipeError:
        # The reader of our output (`selfsup recipes | head`) has left; that is no error.
        silence(sys.stdout)
        return 0
    except SystemExit as stop:
        if not isinstance(stop.__context__, BrokenPipeError):
            raise
        return 0  # rich's way to say the same
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            return _defect()
        why = NO_SPACE.get(error.errno or 0, error.strerror)
        what = f"{error.filename}: {why}" if error.filename else str(why)
        if error.errno == errno.ENAMETOOLONG:
            return _refuse(f"{what}; give a shorter one")
        return _refuse(f"{what}; make room or choose another folder, and run it again")
    except Exception as error:
        return _out_of_memory(error) if _ran_out(error) else _defect()
    return 0


_OF_THE_DISK = (
    *NO_SPACE, errno.EROFS, errno.EACCES, errno.ENOTDIR, errno.EISDIR, errno.EEXIST,
    errno.ENAMETOOLONG,
)  # fmt: skip
"""Also what a place says that was looked at before and has changed since; a file that is not there is a
defect of ours."""


_NARROWEST = 20
_MOST_SAID = 200
"""Letters of another library's message."""


def _prepare_streams() -> None:
    """Let everything be printed: into closed streams, in any coding, on terminals without width."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        stream = getattr(sys, name)
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    given = os.environ.get("COLUMNS", "")
    width = int(given) if given.isdecimal() else shutil.get_terminal_size().columns
    if width < _NARROWEST:
        os.environ["COLUMNS"] = str(_NARROWEST)


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does, also before training listens to it."""
    try:
        old = signal.signal(signal.SIGTERM, signal.default_int_handler)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if old is None else old)


def _ran_out(error: Exception) -> bool:
    """Whether memory ran out: Python's, NumPy's, torch's or that of a GPU."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or "DefaultCPUAllocator: can't allocate memory" in str(error)


def _out_of_memory(error: Exception) -> int:
    said = str(error).partition("\n")[0]
    what = (
        f"there is not enough memory ({said[:_MOST_SAID]})"
        if said
        else "there is not enough memory"
    )
    return _refuse(f"{what}; give less at once: smaller files, shorter texts, a smaller batch")


def _defect() -> int:
    import traceback

    with unheard(sys.stderr):
        traceback.print_exc()
        sys.stderr.flush()
    return 1


def _with_settings(tokens: list[str]) -> list[str]:
    """`--train.batch_size 64` as `--set=train.batch_size=64`, which is what the commands know."""
    if not any(token.startswith("--") and "." in token.partition("=")[0] for token in tokens):
        return tokens  # and pydantic need not be loaded
    from selfsup.config_files import split_overrides

    overrides, rest = split_overrides(_configured_by(tokens), tokens)
    settings = [
        f"--set={o.label[2:]}" + ("" if o.text is None else f"={o.text}") for o in overrides
    ]
    end = rest.index("--") if "--" in rest else len(rest)
    return [*rest[:end], *settings, *rest[end:]]


def _configured_by(tokens: list[str]) -> type[BaseModel]:
    """The configuration that a command's dotted flags belong to."""
    if tokens[:1] in (["finetune"], ["glue"]) or tokens[:2] in (
        ["study", "curves"],
        ["study", "alphabets"],
    ):
        from selfsup.finetune_config import FinetuneConfig

        return FinetuneConfig
    if tokens[:1] == ["pretrain"] and autoencoder_training.chosen_recipe(tokens[1:]):
        from selfsup.autoencoder_config import AutoEncoderConfig

        return AutoEncoderConfig
    from selfsup.config import PretrainConfig

    return PretrainConfig


def _refuse(message: str) -> int:
    _say(message)
    return 2


def _say(message: str) -> None:
    with unheard(sys.stderr):
        sys.stderr.write(f"selfsup: {visible(' '.join(message.split()))}\n")
        sys.stderr.flush()


def _usage(error: CycloptsError) -> str:
    """What is wrong with a command line, in one line."""
    verb = " ".join(error.command_chain or [])
    more = f"see `{' '.join(['selfsup', *(error.command_chain or [])])} --help`"
    command = f"{verb}: " if verb else ""
    lacks = isinstance(error, (UnknownOptionError, MissingArgumentError))
    if lacks and "-" in (error.root_input_tokens or ()):
        return f"{command}-: {PIPE}; {PIPE_MEND}"
    if isinstance(error, UnknownOptionError):
        flag = (error.token.keyword or error.token.value).partition("=")[0]
        if flag == "--set":
            given = error.root_input_tokens or []
            flag = next((_as_written(t) for t in given if t.startswith("--set=")), flag)
            flag = flag.partition("=")[0]
        known = [n for a in error.argument_collection if a.show for n in a.names if n[:1] == "-"]
        return f"{command}unknown flag '{flag}'; {nearest(flag, known) or more}"
    if isinstance(error, UnknownCommandError):
        word = _as_written((error.unused_tokens or ["?"])[0])
        known = _names(error.app or app)
        kind = "command" if verb else "verb"
        mend = nearest(word, known) or f"known: {', '.join(known)}"
        return f"{command}unknown {kind} '{word}'; {mend}"
    if isinstance(error, UnusedCliTokensError):
        word = (error.unused_tokens or ["?"])[0]
        return f"{command}'{word}' is one word too many; quote a glob, or {more}"
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        name = error.keyword or error.argument.name
        what = f"{name} needs a value" if error.keyword else f"{name} is missing"
        return f"{command}{what}; {more}"
    error.verbose = False
    text = str(error).strip().rstrip(".")
    return f"{command}{text[:1].lower()}{text[1:]}"


def _as_written(token: str) -> str:
    """Undoes `_with_settings`."""
    return "--" + token.removeprefix("--set=") if token.startswith("--set=") else token


def _names(of: App) -> list[str]:
    names: Any = of
    return [name for name in names if not name.startswith("-")]
