"""Texts that a tokenizer may lose something of."""

NAMES = ("Tim", "Ann", "Max", "Lucy", "Sam", "Mia", "Ben")
TEXTS = [
    f'One day, {name} saw {number} birds.\n"Look!" said {name}. The end.'
    for name in NAMES
    for number in ("two", "three", "seven")
]
HARD_TEXTS = [
    "two  spaces,   three",
    " leading and trailing ",
    "\n\nnew\n\n\nlines\n",
    "tabs\tand\r\nreturns",
    "emoji \U0001f600\U0001f469\u200d\U0001f680 e\u0301",
    "\u4e16\u754c \u05e9\u05dc\u05d5\u05dd",
    "[MASK] <pad> <s> </s> <unk> <0x41> <|endoftext|>",
    "\u2581\u2581 the sign of \u2581SentencePiece\u2581, and \u2585 too",
    "nothing\u200b \u00a0 visible\ufeff \x00\x01",
    "",
]
