"""The verbs of decoders: `generate` and `export`."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from selfsup.cli import render
from selfsup.cli.commands import Input, TextColumn, _texts
from selfsup.cli.flags import Json, Model, Overwrite, PlaceOf, Quiet, unescaped
from selfsup.data.outputs import check_output
from selfsup.errors import Interrupted, UserError

if TYPE_CHECKING:
    from selfsup.uses.generate import Piece, Written

_CHOICE = Group("Choosing tokens", sort_key=1)
_SPEED = Group("Speed", sort_key=2)


def _choice(text: str) -> Parameter:
    return Parameter(group=_CHOICE, negative="", help=text)


def generate(
    model: Model,
    /,
    *,
    prompt: Annotated[
        list[str] | None,
        Parameter(negative="", help='A text to write on from; may be repeated; "": from nothing.'),
    ] = None,
    input: Input = None,
    column: TextColumn = "text",
    max_tokens: Annotated[int, _choice("Tokens for each text at most [300].")] = 300,
    greedy: Annotated[bool, _choice("Always the most probable token.")] = False,
    temperature: Annotated[float, _choice("Lower is safer; 0 is greedy [1].")] = 1.0,
    top_k: Annotated[int | None, _choice("Only the k most probable tokens [all].")] = None,
    top_p: Annotated[float, _choice("Only the fewest that have this probability [1].")] = 1.0,
    min_p: Annotated[float, _choice("Only those with this share of the best one's [0].")] = 0.0,
    repetition_penalty: Annotated[float, _choice("Above 1: fewer repetitions [1].")] = 1.0,
    stop: Annotated[
        list[str] | None, _choice("A text at which to end, as `\\n`; may be repeated.")
    ] = None,
    samples: Annotated[int, _choice("Texts for each prompt [1].")] = 1,
    seed: Annotated[int, _choice("Of every draw [0].")] = 0,
    precision: Annotated[
        Literal["fp32", "bf16", "auto"],
        Parameter(group=_SPEED, help="bf16 is faster and a little rougher [fp32]."),
    ] = "fp32",
    int8: Annotated[
        bool, Parameter(group=_SPEED, negative="", help="Weights in int8: fastest for one text.")
    ] = False,
    batch: Annotated[int, Parameter(group=_SPEED, help="Texts written side by side [16].")] = 16,
    device: Annotated[
        str, Parameter(group=_SPEED, help="auto, cpu, cuda or cuda:1 [auto].")
    ] = "auto",
    no_cut: Annotated[
        bool, Parameter(negative="", help="Refuse a prompt that is longer than the context.")
    ] = False,
    output: Annotated[
        Path | None, PlaceOf, Parameter(name=["--output", "-o"], help="A .jsonl file to write.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write on from prompts.

    One text is shown as it is written; several in their order, each when it is done.
    """
    check_output(output, ".jsonl", overwrite, input)
    if column != "text" and input is None:
        raise UserError("is about --input, which is missing", where="--column")
    prompts = [*(prompt or ()), *(_texts(input, column) if input else ())]
    if not prompts:
        raise UserError("no prompt", mend='give --prompt "a text", or --input FILE')
    from selfsup.models.decoder_hub import load_decoder
    from selfsup.uses import generate as writing
    from selfsup.uses.sampling import Sampling

    sampling = Sampling(
        max_tokens=max_tokens,
        greedy=greedy,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        stop=tuple(unescaped(one) for one in stop or ()),
        samples=samples,
        seed=seed,
    )
    decoder = load_decoder(model, device)
    writer = writing.Writer(decoder, precision=precision, int8=int8, batch=batch)
    pieces = writer.generate(prompts, sampling, cut=not no_cut)
    if len(prompts) == samples == 1 and not (as_json or output):
        _stream(prompts[0], pieces)
        return
    written = writing.in_order(prompts, pieces, samples)
    total = len(prompts) * samples
    kept: list[Written] = []
    if output:
        kept = _write_lines(output, written, total, keep=as_json, quiet=quiet or as_json)
    elif as_json:
        kept = list(written)
    if as_json:
        render.print_json([asdict(one) for one in kept])
    elif output:
        render.show({"texts": total, "output": str(output)}, as_json=False)
    else:
        _show(written, several=samples > 1)


def export(
    model: Model,
    /,
    *,
    output: Annotated[Path, PlaceOf, Parameter(name=["--output", "-o"], help="The file to write.")],
    to: Annotated[Literal["gguf"], Parameter(help="gguf: for llama.cpp [gguf].")] = "gguf",
    type: Annotated[
        Literal["f32", "f16"], Parameter(help="Number format of the matrices [f32].")
    ] = "f32",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write a model as another runtime reads it."""
    check_output(output, f".{to}", overwrite)
    from selfsup.models.decoder_hub import load_decoder
    from selfsup.uses.export import export_gguf

    result = export_gguf(load_decoder(model), output, type)
    render.show(result, as_json=as_json, title=str(output))


def _stream(prompt: str, pieces: Iterator[Piece]) -> None:
    """Show one text behind its prompt, as it is written."""
    render.print_piece(prompt)
    notes, count, started = [], 0, time.perf_counter()
    for piece in pieces:
        render.print_piece(piece.text)
        count += len(piece.ids)
        notes += [piece.note] if piece.note else []
    render.print_piece("\n")
    for note in dict.fromkeys(notes):
        render.note(note)
    seconds = time.perf_counter() - started
    render.note(f"{count} tokens in {seconds:.1f} s, {count / seconds:,.0f} a second")


def _show(written: Iterator[Written], *, several: bool) -> None:
    number, last = 0, None
    for one in written:
        number += one.sample == 0
        title = f"prompt {number}" + (f", sample {one.sample + 1}" if several else "")
        render.print_text(("" if last is None else "\n") + f"[{title}]")
        render.print_text(one.prompt + one.text)
        last = one
        if one.note and one.sample == 0:
            render.note(one.note)


def _write_lines(
    output: Path, written: Iterator[Written], total: int, *, keep: bool, quiet: bool
) -> list[Written]:
    """One JSON object a line, each when its text is done; written beside and renamed.

    Args:
        output: the file.
        written: texts, of which it gets all.
        total: how many there will be.
        keep: whether to give them back too.
        quiet: show no progress.

    Raises:
        Interrupted: by Ctrl-C; what was written so far has a name of its own.
    """
    from selfsup.data.files import whole_file
    from selfsup.data.paths import link_target
    from selfsup.training.progress import reading

    kept, done = [], 0
    with (
        whole_file(output) as beside,
        open(beside, "w", encoding="utf-8", buffering=1) as file,  # whole lines, as they come
        reading(total, "texts", quiet=quiet, what="written") as tell,
    ):
        try:
            for one in written:
                file.write(json.dumps(asdict(one), ensure_ascii=False) + "\n")
                done += 1
                tell(done)
                if keep:
                    kept.append(one)
        except KeyboardInterrupt:
            if not done:
                raise
            part = _free_name(link_target(output))
            beside.replace(part)
            what = f"stopped at text {done:,} of {total:,}; those are in {part}"
            raise Interrupted(what) from None
    return kept


def _free_name(output: Path) -> Path:
    """`texts.part.jsonl` for `texts.jsonl`, or the first with a number that is not there."""
    names = (f"{output.stem}.part{n or ''}{output.suffix}" for n in itertools.count())
    return next(output.parent / name for name in names if not (output.parent / name).exists())
