"""The data section of the configuration; `lm_jax.config` exports it."""

import dataclasses

from lm_jax.validation import Validated, require, require_seed


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig(Validated):
    """The corpus, its train/validation split, its tokenizer and its windows.

    Attributes:
      corpus: "storyworld" (embedded), "tinystories" or "text" (your own files); see
        lm_jax/data/corpora.py.
      train_files: training files, separated by commas (a comma in a path is written
        \\,); "tinystories" without them downloads the official files.
      valid_files: validation files, as train_files; "text" without them holds out
        valid_share.
      edition: edition of TinyStories to download: "first" (by GPT-3.5 and GPT-4, as in
        arXiv:2603.22075) or "second" (by GPT-4 alone).
      num_stories: training stories that storyworld generates.
      num_valid_stories: validation stories that storyworld generates.
      valid_share: share of the documents held out where there are no valid_files.
      max_documents: number of documents to train on, from the first; 0 is all. The
        tokenizer is trained on all of them, so that small and large corpora share it.
      windows: "document" (every window begins with a document) or "stream" (one
        unbroken text).
      split: "document", or "chunk": a random valid_share of the windows of the training
        stream validates, as in arXiv:2603.22075. Documents then straddle the split: it
        LEAKS.
      tokenizer: "sentencepiece", or "gpt2" (byte pairs, read from files).
      tokenizer_files: file of a trained SentencePiece model; "" trains one of
        model.vocab_size. For "gpt2" two files, "vocab.json,merges.txt".
      seed: seed of storyworld's stories and of the held-out documents.
      cache_dir: directory of prepared corpora and windows, named by content hash.
    """

    corpus: str = "storyworld"
    train_files: str = ""
    valid_files: str = ""
    edition: str = "second"
    num_stories: int = 20_000
    num_valid_stories: int = 1_000
    valid_share: float = 0.05
    max_documents: int = 0
    windows: str = "document"
    split: str = "document"
    tokenizer: str = "sentencepiece"
    tokenizer_files: str = ""
    seed: int = 0
    cache_dir: str = "~/.cache/lm_jax"

    def validate(self) -> None:
        self.one_of("windows", "document", "stream")
        self.one_of("split", "document", "chunk")
        self.one_of("tokenizer", "sentencepiece", "gpt2")
        self.one_of("edition", "first", "second")
        require_seed(self.seed, "DataConfig.seed")
        self.at_least(0, "max_documents")
        self.at_least(1, "num_stories", "num_valid_stories")
        require(
            0.0 < self.valid_share < 1.0,
            f"DataConfig.valid_share={self.valid_share} must lie between 0 and 1",
        )
        require(
            self.corpus != "text" or bool(self.train_files),
            "corpus='text' needs files: pass --config.data.train_files=a.txt,b.txt",
        )
        require(
            self.split == "document" or self.windows == "stream",
            f"DataConfig.split='chunk' needs windows='stream', not {self.windows!r}: "
            "pass --config.data.windows=stream or --config.data.split=document",
        )
