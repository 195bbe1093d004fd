"""The ways in which people write names and ids into texts, as `dates` has those of a day.

    long words      a name's words of three letters or more, and the name as a whole: anywhere in a text, with
                    any separators; of Chinese, Japanese and Korean two characters are enough ("王伟", "山田")
    short words     "Li", "王": as words by themselves; two or more words of the name in any order ("na_li")
    ids             as a whole, and their longer numbers

Words of what is studied (CT, GTV) are no names, and words that every text holds ("an", "in") none alone.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from unicodedata import normalize

SHORTEST_NAME, SHORTEST_NUMBER = 3, 4  # letters and digits that are a secret wherever they stand
MOST = 4  # words before and after one: without a limit a search could take for ever ("a^aa" in "aaaaaa…")
_BETWEEN = r"[\W_]*"  # "QP-77-4411", "qp774411" and "QP 77_4411" are one id
# characters that are a syllable or a word each: they count as two letters
_SYLLABLES = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\uff66-\uff9f"
_SYLLABLES += "\U00020000-\U0003347f"
# they have no case; to say so makes expressions quick to compile
_SYLLABLE, _LETTER = f"(?-i:[{_SYLLABLES}])", rf"(?-i:[^\W\d_{_SYLLABLES}])"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# modalities and structures
_STUDIED = _words("ct pt pet mr mri nm us rt seg reg gtv igtv ctv ictv ptv itv oar roi")
# in our own messages, as units and abbreviations, as particles of names
_EVERYWHERE = _words(
    "an as at be by do he if in is it na no of on or so to up we am im zu da de di du el la le dr"
    " bq cm gy hu id kg ml mm"
)


@dataclass(frozen=True)
class Spelling:
    """A way to write a name or an id, or a part of it.

    Attributes:
        expression: what finds it.
        words: of letters and digits alone, in one case.
        needed: how many of the words a text must hold, if it holds the name.
    """

    expression: str
    words: tuple[str, ...]
    needed: int = 1

    def may_be_in(self, tight: str) -> bool:
        """Whether a text of `tight` letters may hold it; quick."""
        return sum(word in tight for word in self.words) >= self.needed


def tight(text: str) -> str:
    """Letters and digits alone, in one case."""
    return "".join(filter(str.isalnum, text.casefold()))


def spellings(secret: str) -> Iterator[Spelling]:
    """The ways to write a name or an id. The words of an id are no secrets: ids are often made of what is
    being studied ("LUNG-GTV-0042"). What has a digit is an id."""
    words = [word for word in re.split(r"[\W_]+", normalize("NFC", secret)) if word]
    if any(character.isdigit() for character in secret):
        if len("".join(words)) >= SHORTEST_NAME:
            yield _anywhere("".join(words))
        yield from (_anywhere(w) for w in words if w.isdigit() and len(w) >= SHORTEST_NUMBER)
        return
    names = [word for word in dict.fromkeys(words) if word.casefold() not in _STUDIED]
    long = [word for word in names if _size(word) >= SHORTEST_NAME]
    if names and _size("".join(words)) >= SHORTEST_NAME:
        yield _anywhere("".join(words))
    yield from map(_anywhere, long)
    if len(long) == len(names):
        return
    if long:
        yield _anywhere("".join([*words[1:], words[0]]))  # "Xiaoming Li"
    words = [word for word in names if _size(word) == SHORTEST_NAME - 1]
    yield from (_alone(word) for word in words if word.casefold() not in _EVERYWHERE)
    yield from _several(names)


def _size(word: str) -> int:
    return len(word) + len(re.findall(_SYLLABLE, word))


def _anywhere(word: str) -> Spelling:
    spelled = _BETWEEN.join(map(re.escape, word))
    # a number is not looked for within a longer one
    return Spelling(rf"(?<!\d){spelled}(?!\d)" if word.isdigit() else spelled, (tight(word),))


def _alone(word: str) -> Spelling:
    """A short word with no letter beside it, or no other syllable."""
    beside = _LETTER if _size(word) == len(word) else _SYLLABLE
    return Spelling(rf"(?<!{beside}){re.escape(word)}(?!{beside})", (tight(word),))


def _several(names: list[str]) -> Iterator[Spelling]:
    """Two or more of a name's words, in any order. One of them tells more than an initial, or a word that is
    in every text, if any word of the name does."""
    words = [word for word in names if _size(word) > 1]
    telling = [word for word in words if word.casefold() not in _EVERYWHERE]
    known = names if telling else words
    if len(known) < 2:
        return
    one, any_of = (
        "|".join(map(re.escape, sorted(those, key=len, reverse=True))) for those in (telling or words, known)
    )
    before, after = f"(?:(?:{any_of}){_BETWEEN})", f"(?:{_BETWEEN}(?:{any_of}))"
    together = f"(?:{before}{{1,{MOST}}}(?:{one}){after}{{0,{MOST}}}|(?:{one}){after}{{1,{MOST}}})"
    if any(_size(word) == len(word) for word in known):
        together = f"(?<!{_LETTER}){together}(?!{_LETTER})"
    yield Spelling(together, tuple(map(tight, known)), needed=2)
