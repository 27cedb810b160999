"""Results of a run that never was: every part that a report can show."""

import math
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np

from experiments.report.series import Results
from lm_jax.config import Config
from lm_jax.sampling.trace import END

HOSTILE = "<script>alert(1)</script> & friends"
OPENINGS = [
    "once upon a time, there", "there was a little girl", "one day, tom went to",
    "lily and ben were in", "in a small house lived", "a bird named kiki saw",
    "tim had a red ball", "it was a sunny day", "every morning, sam and his",
    "a long, long time ago",
]  # fmt: skip
VOID = {"meta", "link", "input", "br", "hr", "img"}


def estimates(**values: float) -> dict[str, dict[str, float]]:
    """Each value with an interval of 3% on both sides."""
    return {
        name: {"value": value, "low": 0.97 * value, "high": 1.03 * value}
        for name, value in values.items()
    }


def texts(variety: float, first: str) -> dict[str, Any]:
    """What is measured of the stories of one source; more is more varied."""
    shares = [0.19 / (1 + 0.4 * i / variety) for i in range(10)]
    shares = [share / (2.2 * sum(shares)) for share in shares]
    stories = [
        f"{OPENINGS[i % 10].capitalize()} was happy. They played with the red ball all "
        f"day long. “Can I play too?” asked the frog.\nStory {i} ends well."
        for i in range(1, 20)
    ]
    return {
        "diversity": estimates(
            distinct_1=0.021 * variety,
            distinct_2=0.14 * variety,
            distinct_3=0.31 * variety,
            distinct_4=0.46 * variety,
            self_bleu=0.55 / variety,
            vocabulary=1204 * variety,
            unique_first_words=0.07 * variety,
            unique_openings=0.41 * variety,
            words_per_document=88.3,
        ),
        "openings": estimates(
            share_of_commonest_first_word=0.41 / variety,
            share_of_commonest_opening=0.12 / variety,
            first_word_entropy=2.1 * variety,
            opening_entropy=4.4 * variety,
            opening_distance=0.11 / variety,
        ),
        "openings_by_length": {
            "1": estimates(distinct=40 * variety, jensen_shannon=0.2 / variety)
        },
        "opening_shares": [list(p) for p in zip(OPENINGS, shares, strict=True)],
        "variety": estimates(
            distinct_4=0.44 * variety, compression_ratio=2.5 / variety
        ),
        "fluency": estimates(
            accepted_share=0.71 * variety,
            known_word_share=0.93,
            seen_4gram_share=0.62,
            copied_8gram_share=0.08,
            longest_copied_run=9.4 / variety,
        ),
        "grammar": {
            "errors": estimates(hero=0.04),
            "source_nats_per_story": estimates(x=33.1)["x"],
            "backward_kl_per_story": None,
        },
        "samples": [first, *stories],
    }


def family(label: str, is_bound: bool, nats: float, seed: int) -> dict[str, Any]:
    """A model that learns from log V down to `nats`."""
    rng = np.random.default_rng(seed)
    steps = [1, *range(100, 2001, 100)]
    error = 0.012 if is_bound else 0.0
    speed = 20_500.0 if is_bound else 21_900.0
    curve = [
        {
            "step": step,
            "tokens": step * 8192,
            "flops": step * 8192 * 6.1e6,
            "seconds": step * 8192 / speed,
            "nats_per_token": nats
            + (math.log(1024) - nats) * math.exp(-step / 260)
            + rng.normal() * error,
            "standard_error": error,
        }
        for step in steps
    ]
    bits = nats / (math.log(2.0) * 3.6)
    return {
        "label": label,
        "is_bound": is_bound,
        "num_params": 1_085_696 if is_bound else 1_052_672,
        "num_time_embedding_params": 33_024 if is_bound else 0,
        "flops_per_token": 6.1e6,
        "training": {
            "num_steps": 2_000,
            "num_tokens": 2_000 * 8192,
            "seconds": 2_000 * 8192 / speed,
            "tokens_per_second": speed,
            "seconds_evaluating": 31.2,
            "seconds_saving": 2.4,
        },
        "curve": curve,
        "train_curve": [],
        "likelihood": {
            "nats_per_token": nats,
            "bits_per_byte": bits,
            "is_bound": is_bound,
            "standard_error": 0.004 if is_bound else 0.0,
            "low": nats - (0.008 if is_bound else 0.0),
            "high": nats + (0.008 if is_bound else 0.0),
            "num_tokens": 98_304,
            "num_bytes": 353_000,
            "num_draws": 16 if is_bound else 0,
            "num_windows": 384,
        },
        "sampling": {
            "num_samples": 256,
            "seconds": 12.0,
            "tokens_per_second": 5_461.3,
            "settings": {"temperature": 1.0, "top_p": 1.0, "num_steps": 0},
        },
    }


def trace(family_name: str) -> dict[str, Any]:
    """A story with markup in it: left to right, or word by word from the back.

    The last word of MDLM is written twice: masked again, and written over.
    """
    pieces = [*re.findall(r" ?[^ ]+", HOSTILE), END]
    given: list[Any] = [None] * len(pieces)
    events: list[list[Any]] = [[i, i, piece] for i, piece in enumerate(pieces)]
    if family_name == "mdlm":
        last = len(pieces) - 1
        events = [[2 * i, last - i, piece] for i, piece in enumerate(pieces[::-1])]
        events[1][2] = " foes"
        events += [[2 * last + 2, last - 1, None], [2 * last + 4, last - 1, pieces[-2]]]
    return {
        "text": HOSTILE,
        "nfe": len(pieces) + 2 * (family_name == "mdlm"),
        "given": given,
        "events": events,
    }


def infill() -> dict[str, Any]:
    """Two gaps in given text; behind the end the window goes on."""
    pieces = ["Tom", " saw", " a", " dog", ".", END, "One", " day"]
    free = {1: 3, 3: 1, 6: 2, 7: 0}
    return {
        "text": "Tom saw a dog.",
        "nfe": 4,
        "given": [None if i in free else piece for i, piece in enumerate(pieces)],
        "events": sorted([step, i, pieces[i]] for i, step in free.items()),
    }


def point(self_bleu: float, accepted: float) -> dict[str, Any]:
    """One setting of a frontier."""
    return {
        "setting": "temperature=0.7",
        "seconds_per_story": 0.1 + self_bleu,
        "samples": ["A colder story."],
        **estimates(self_bleu=self_bleu, accepted_share=accepted, distinct_4=0.3),
    }


def sampler_likelihoods() -> list[dict[str, Any]]:
    """What is said of an exact sampler, of one in random order, and of two without."""
    exact = {"kind": "exact", "num_windows": 16, "nfe": 28.0, "num_impossible": 0}
    exact |= {"nats_per_token": 0.816, "data_low": 0.78, "data_high": 0.85}
    bound = exact | {"kind": "bound", "num_orders": 16, "nats_per_token": 0.729}
    bound |= {"certified": 0.731, "nelbo": 0.81, "lower": None}
    never = exact | {"num_impossible": 3, "nats_per_token": None}
    refused = {"refused": "it masks tokens again"}
    return [exact, bound, bound | {"lower": 0.7, "nfe": 112.0}, never, refused]


def make_results() -> Results:
    """Numbers like those of a small run; AR's ten openings are not all human."""
    ar = family("AR", False, 1.213, 0) | texts(0.8, HOSTILE)
    mdlm = family("MDLM", True, 1.342, 1) | texts(0.97, "A | B `c` *d* ``` e.")
    ar["opening_shares"][3:5] = [
        ["tom and lily were at", 0.05],
        ["$x_1$ < y & z", 0.03],
    ]
    ar["fluency"] |= estimates(finished_share=0.97)
    mdlm["fluency"] |= estimates(finished_share=0.94)
    for name, part in (("ar", ar), ("mdlm", mdlm)):
        part["traces"] = [trace(name), trace(name)]
        part["order"] = estimates(kendall_tau=0.9, tokens_per_call=1.7)
        part["can_look_ahead"] = name == "mdlm"
    mdlm["infills"] = [infill(), infill()]
    return {
        "format": 1,
        "command": "python -m experiments.compare --workdir=runs/tiny",
        "config": Config().to_dict(),
        "seed": 0,
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "machine": {"cpu": "Some CPU", "num_cores": 2, "devices": ["cpu"]},
        "versions": {"python": "3.12.1", "jax": "0.11.0", "flax": "0.12.8"},
        "corpus": {
            "name": "storyworld",
            "fingerprint": "2f6c0a",
            "num_train_windows": 5_000,
            "num_train_tokens": 1_280_000,
            "num_valid_windows": 384,
            "num_valid_tokens": 98_304,
            "num_train_stories": 20_000,
            "num_valid_stories": 1_000,
            "bytes_per_token": 3.6,
            "entropy": {"nats_per_story": 61.3, "nats_per_token": 1.104},
        },
        "families": {"ar": ar, "mdlm": mdlm},
        "differences": {
            "nats_per_token": {"mdlm": {"value": 0.129, "low": 0.11, "high": 0.15}}
        },
        "frontier": {
            "num_stories": 32,
            "families": {
                name: [
                    point(0.4 + 0.1 * i, 0.9 - 0.2 * i) | {"likelihood": found}
                    for i, found in enumerate(likelihoods)
                ]
                for name, likelihoods in (
                    ("ar", sampler_likelihoods()[:1] * 3),
                    ("mdlm", sampler_likelihoods()),
                )
            },
            "human": point(0.35, 1.0),
        },
        "human": texts(1.0, "Once upon a time, there was a dog."),
    }


def drop_metrics(results: Results) -> Results:
    """A run of which hardly anything was measured."""
    for part in (*results["families"].values(), results["human"]):
        for name in ("diversity", "openings", "fluency", "likelihood", "sampling"):
            part[name] = {}
        part["order"] = {}
        for name in ("curve", "opening_shares", "samples", "traces", "infills"):
            part[name] = []
        part["training"] = {}
    del results["frontier"]
    return results


class Page(HTMLParser):
    """Parses a page strictly: what is opened is closed, in order."""

    def __init__(self, html: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[tuple[str, str]] = []  # innermost tag and the text in it
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> repeats an attribute"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        self.text.append((self.open[-1] if self.open else "", data))

    def attributes(self, name: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.tags if name in attrs]

    def texts(self, tag: str) -> list[str]:
        return [data for innermost, data in self.text if innermost == tag]


def repeated(curves: dict) -> dict:
    """data_constrained.json with these validation losses by (label, share)."""
    return {
        "command": "test",
        "commit": "0",
        "config": Config().to_dict(),
        "machine": {"cpu": "none"},
        "versions": {"jax": "0"},
        "arms": {"plain": {}},
        "seeds": [0, 1],
        "cells": [
            {
                "share": share,
                "arm": "plain",
                "label": label,
                "seed": seed,
                "epochs": float(share),
                "num_stories": 64 // share,
                "clock": {"num_tokens": 100},
                "curves": {
                    "validation": [
                        [i, nats + 0.001 * seed, 0.0]
                        for i, nats in enumerate(curves[label, share])
                    ]
                },
            }
            for seed in (0, 1)
            for label in ("AR", "MDLM")
            for share in (1, 16)
        ],
    }
