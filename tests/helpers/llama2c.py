"""llama2.c in NumPy, apart from the library: writer, forward pass and tokenizer."""

import struct
from typing import NamedTuple

import numpy as np

NAMES = ("att", "ffn", "norm", "emb", "wq", "wk", "wv", "wo", "w1", "w2", "w3")
LEGACY = "emb att wq wk wv wo ffn w1 w2 w3 norm freqs".split()


class Sizes(NamedTuple):
    """The seven integers of a header."""

    dim: int = 16
    hidden: int = 24
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    vocab: int = 271
    seq: int = 32

    def shapes(self, tied=True):
        d, f, n, v = self.dim, self.hidden, self.layers, self.vocab
        kv = d // self.heads * self.kv_heads
        shapes = {"att": (n, d), "ffn": (n, d), "norm": (d,), "emb": (v, d)}
        shapes |= {"wq": (n, d, d), "wk": (n, kv, d), "wv": (n, kv, d)}
        shapes |= {"wo": (n, d, d), "w1": (n, f, d), "w2": (n, d, f), "w3": (n, f, d)}
        shapes["freqs"] = (2, self.seq, d // self.heads // 2)
        return shapes if tied else shapes | {"head": (v, d)}


def random_weights(sizes, tied=True, seed=0):
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(0, shape[-1] ** -0.5, shape).astype(np.float32)
        for name, shape in sizes.shapes(tied).items()
    }


def to_bytes(sizes, weights, legacy=False):
    """The content of a file of version 1, or of a legacy one."""
    names = [*(LEGACY if legacy else NAMES), *(["head"] if "head" in weights else [])]
    if legacy:
        sign = -1 if "head" in weights else 1
        header = struct.pack("<7i", *sizes._replace(vocab=sign * sizes.vocab))
    else:
        header = struct.pack("<Ii7iB", 0x616B3432, 1, *sizes, "head" not in weights)
        header = header.ljust(256, b"\0")
    return header + b"".join(weights[name].astype("<f4").tobytes() for name in names)


def read(data):
    """(sizes, weights) of a file of version 1."""
    sizes, offset, weights = Sizes(*struct.unpack_from("<7i", data, 8)), 256, {}
    for name in NAMES:
        shape = sizes.shapes()[name]
        count = int(np.prod(shape))
        weights[name] = np.frombuffer(data, "<f4", count, offset).reshape(shape)
        offset += 4 * count
    assert offset == len(data)
    return sizes, weights


def logits(sizes, weights, ids, epsilon=1e-5):
    """Logits (L, V) of tokens (L,) in float64."""
    w = {name: x.astype(np.float64) for name, x in weights.items()}
    length, k = len(ids), sizes.dim // sizes.heads

    def norm(x, scale):
        return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + epsilon) * scale

    angle = np.arange(length)[:, None] * 1e4 ** (-np.arange(0, k, 2) / k)[None]
    turn = np.exp(1j * angle)[:, None]

    def heads(x, rotates):
        x = x.reshape(length, -1, k)
        if rotates:
            pairs = (x[..., ::2] + 1j * x[..., 1::2]) * turn
            x = np.stack([pairs.real, pairs.imag], -1).reshape(x.shape)
        return np.repeat(x, sizes.heads // x.shape[1], 1)

    h = w["emb"][ids]
    past = np.tril(np.ones((length, length), bool))
    for i in range(sizes.layers):
        x = norm(h, w["att"][i])
        q, key = heads(x @ w["wq"][i].T, True), heads(x @ w["wk"][i].T, True)
        v = heads(x @ w["wv"][i].T, False)
        scores = np.einsum("lhk,mhk->hlm", q, key) / np.sqrt(k)
        p = np.exp(np.where(past, scores - scores.max(-1, keepdims=True), -np.inf))
        mixed = np.einsum("hlm,mhk->lhk", p / p.sum(-1, keepdims=True), v)
        h = h + mixed.reshape(length, -1) @ w["wo"][i].T
        x = norm(h, w["ffn"][i])
        gate = x @ w["w1"][i].T
        h = h + (gate / (1 + np.exp(-gate)) * (x @ w["w3"][i].T)) @ w["w2"][i].T
    return norm(h, w["norm"]) @ w.get("head", w["emb"]).T


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def our_ids(ids):
    """0 -> 5, 1 -> EOS, 2 -> 6, j -> j + 4: the mapping that is known to work."""
    return np.array([{0: 5, 1: 4, 2: 6}.get(int(i), int(i) + 4) for i in ids])


# The tokenizer.


def pieces(data):
    """(text, score) of every piece of tokenizer.bin."""
    offset, found = 4, []
    while offset < len(data):
        score, size = struct.unpack_from("<fi", data, offset)
        found.append((data[offset + 8 : offset + 8 + size], score))
        offset += 8 + size
    return found


def tokenizer_bytes(words=()):
    """A tokenizer.bin of the bytes and these pieces, the first with the best score."""
    texts = ["<unk>", "\n<s>\n", "\n</s>\n", *(f"<0x{b:02X}>" for b in range(256))]
    entries = [(text.encode(), 0.0) for text in texts]
    entries += [(word.encode(), -float(i)) for i, word in enumerate(words)]
    data = struct.pack("<i", max(len(text) for text, _ in entries))
    return data + b"".join(struct.pack("<fi", s, len(t)) + t for t, s in entries)


def encode(data, text):
    """The greedy merges of run.c, without BOS."""
    found = pieces(data)
    index = {piece: i for i, (piece, _) in enumerate(found)}
    ids = []
    for character in f" {text}" if text else "":
        octets = character.encode()
        ids += [index[octets]] if octets in index else [octet + 3 for octet in octets]
    while True:
        best = None
        for at in range(len(ids) - 1):
            merged = index.get(found[ids[at]][0] + found[ids[at + 1]][0])
            if merged is not None and (best is None or found[merged][1] > best[0]):
                best = found[merged][1], at, merged
        if best is None:
            return ids
        ids[best[1] : best[1] + 2] = [best[2]]
