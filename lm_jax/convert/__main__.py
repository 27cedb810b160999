"""Reads published models into run directories, and writes runs for transformers.

python -m lm_jax.convert --from=llama2c --checkpoint=model.bin --workdir=runs/stories
python -m lm_jax.convert --workdir=runs/ar --out=exported/ar
"""

from absl import flags

from lm_jax import command_line
from lm_jax.convert import export_run, import_run
from lm_jax.convert.importing import FORMATS
from lm_jax.validation import require, split_list


def main() -> None:
    """Imports with --from, exports with --out."""
    values, workdir = flags.FLAGS, command_line.path("workdir")
    require(
        bool(values["from"].value) != bool(values.out),
        "what is to be done is not said: pass --from=FORMAT to import a published "
        "model into --workdir, or --out=DIR to export --workdir",
    )
    if values.out:
        for name in IMPORT_FLAGS:
            require(
                not values[name].present,
                f"--{name} is about an import: leave it out, or pass --from=FORMAT",
            )
        out = export_run(workdir, command_line.path("out"), values.checkpoint)
        print(f"{out} holds the model; its README.md says how to use it")
        return
    require(
        bool(values["checkpoint"].present and values.checkpoint),
        "--checkpoint is missing: pass the published file or directory",
    )
    run = import_run(
        str(values["from"].value),
        command_line.path("checkpoint"),
        workdir,
        tokenizer=split_list(values.tokenizer),
        text_file=values.text_file,
        length=values.length,
        eos_id=values.eos_id,
    )
    model = run.cfg.model
    print(
        f"{workdir} holds a run of the family {run.family}: {model.num_layers} layers "
        f"of width {model.width}, {model.vocab_size:,} ids, windows of {model.length} "
        f"tokens, {len(run.valid)} of them held out"
    )


IMPORT_FLAGS = ("tokenizer", "text_file", "length", "eos_id")

if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "Directory of the run.")
    flags.DEFINE_string(
        "from", "", f"Format to import: {' or '.join(FORMATS)}. Default: none."
    )
    flags.DEFINE_string(
        "checkpoint",
        "latest",
        "For an import: the published file, or directory. For an export: checkpoint "
        "to read: latest, best (lowest validation loss) or its step.",
    )
    flags.DEFINE_string("out", "", "Directory to export to. Default: none.")
    flags.DEFINE_string(
        "tokenizer",
        "",
        "Tokenizer of the published model: tokenizer.bin, tokenizer.model, or "
        "vocab.json,merges.txt. Default: the files beside --checkpoint.",
    )
    flags.DEFINE_string(
        "text_file", "", "Held-out text of the imported run. Default: none."
    )
    flags.DEFINE_integer(
        "length", 0, "Tokens of a window of the imported run; 0: all positions."
    )
    flags.DEFINE_integer(
        "eos_id", None, "Published id that ends a text. Default: the checkpoint's own."
    )
    command_line.run(main, required={"workdir": "DIR"})
