"""The text that scripted upstreams and the tiny models recite: a lost, doubled or invented word shows at once."""

SYLLABLES = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]


def word(i):
    """Word `i` of the recitation: baba, babe, babi, ... 4,900 of them, then from the start again."""
    i %= len(SYLLABLES) ** 2
    return SYLLABLES[i // len(SYLLABLES)] + SYLLABLES[i % len(SYLLABLES)]


def recitation(count, start=0):
    """Words `start` to `start + count`, joined by single spaces."""
    return " ".join(word(i) for i in range(start, start + count))
