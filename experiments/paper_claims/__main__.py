"""Tables of the paper's claims under its own protocol and the repaired one.

python -m experiments.paper_claims            prints the tables of experiments/results
python -m experiments.paper_claims --write    writes them into its README.md

All numbers come from the JSON in experiments/results; sources without a
run are left out.
"""

from absl import flags

from experiments.paper_claims.claims import BEGIN, END, RESULTS, markdown
from lm_jax import command_line


def main() -> None:
    """Runs the command."""
    text = markdown()
    if not flags.FLAGS.write:
        print(text)
        return
    path = RESULTS / "README.md"
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    flags.DEFINE_bool("write", False, f"Write the tables into {RESULTS}/README.md.")
    command_line.run(main)
