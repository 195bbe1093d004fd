"""What the words of a description say of its numbers: those of moments of a breath, or of other things.

Contrast media, doses, reconstructions and the heart are numbered in the same ways ("ven. Phase 70s",
"50% dose", "BestDiast 70%"). Words are English, German, French, Italian and Spanish.
"""

import re

_LETTER = r"[^\W\d_]"


def _words(stems: str) -> re.Pattern[str]:
    """Any of some words; `*` stands for more letters."""
    words = "|".join(stem.replace("*", f"{_LETTER}*") for stem in stems.split())
    return re.compile(rf"(?<!{_LETTER})(?:{words})(?!{_LETTER})", re.IGNORECASE)


_BREATHING = _words("resp respir* rpm breath* atem* atmung* bellows")
_GATING = _words("4d 4-d 4dct 4dpet gated gating gate")  # also of the heart and of perfusion
_HELD = _words("breath-?hold* hold held dibh apn* atemanhalt* atemstill* atemstopp*")
_HEART = _words(
    "heart cardi* kardi* herz* coeur* cœur* cuore coraz* coronary coronari* koronari* ecg* ekg* rr r-r "
    "diast* systol* syst telediast* telesist* diást* sistol* sístol* bestdia* bestsys* enddia* endsys*"
)
_CONTRAST_PHASES = _words(  # and what is made of several
    "art arteri* artéri* ven ven[oöóé]* vein* v[eé]neu* pv pvp porta portal* porto* "
    r"(?<!trigger[\s_-])delay* late tard* spät* spaet* early früh* frueh* precoce* precoz temprana "
    "equil* équil* gleichgew* parenchymal* parenchymat* parenchymphas* parenchimal* parenquimat* "
    "nephro* nefro* néphro* excret* exkret* urograph* urograf* wash-?out* bolus* "
    "multi-?(?:ph|f)[aá]s* mehrphas* (?:bi|tri)-?(?:ph|f)[aá]s* perfus* cta angio* dynam* dinam*"
)
_AGENTS = _words(
    "contrast* kontrast* km kmg iv civ ce cect pdc mdc cmdc smdc injec* enhance* unenhance* nativ* noncon* "
    "plain basal* iod* jod* gado*"
)
_SCANS = _words(  # doses, reconstructions, energies and steps
    "dos* fbp ir iter* asi?r* safire admire idose* imr mbir aidr* aice veo dlir* truefidelity strength* "
    "overlap* increment* noise* exposure* dual* dect blend* mix* mono* kev vmi vnc"
)
# numbers beside words that say what else they are, with the words
_OTHERS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # no other number may stand between them: "iDose 4 40%" is level 4
        rf"(?:asi?r|idose|safire|admire|dlir|veo|mbir|aidr|imr|(?<!{_LETTER})ir)(?:[^\W\d]|[\s-]){{0,6}}?"
        r"\d{1,3}\s*%",
        r"(?:blend(?:ing)?|mix(?:ed)?|strength)[\s:=_-]*\d{1,3}\s*%",
        r"\d{1,3}\s*%[\s_-]*(?:blend|mix)",
        rf"(?<!low)(?<!low[\s_-])(?<!{_LETTER})dos(?:e|is|i|age)[\s:=_-]*\d{{1,3}}\s*%",
        r"\d{1,3}\s*%[\s_-]*(?:(?:of|the|der|de|la|della|full|std|standard|normal)[\s_-]+)*dos(?:e|is|i|age)\b",
        # a range, from which an average is made; "3.0 - 40%" and a date before it are none
        r"(?<![\d.,-])(?:\d{1,3}\s*%\s*(?:-|to)\s*|\d{1,3}(?:-|\s*to\s*)|0\s*-\s*)\d{1,3}\s*%",
    )
)


def without_other_numbers(text: str) -> str:
    """A description without the strengths, doses and ranges that it tells."""
    for pattern in _OTHERS:
        text = pattern.sub(" ", text)
    return text


def tells_breath(text: str) -> bool:
    """Whether a description speaks of breathing. Who holds the breath does not breathe; "gated" and "4D" are
    said of the heart and of contrast media too."""
    if _HELD.search(text):
        return False
    of_others = _HEART.search(text) or _CONTRAST_PHASES.search(text)
    return bool(_BREATHING.search(text) or (_GATING.search(text) and not of_others))


def tells_heart(text: str) -> bool:
    """Whether a description speaks of the heart, and not of breathing."""
    return bool(_HEART.search(text)) and not tells_breath(text)


def tells_contrast(text: str) -> bool:
    """Whether "phase" in a description may be that of a contrast medium. A 4D-CT may be made with one."""
    return bool(_CONTRAST_PHASES.search(text) or (_AGENTS.search(text) and not tells_breath(text)))


def tells_other_scans(text: str) -> bool:
    """Whether a description speaks of what scans of one patient differ in, other than the breath."""
    said = without_other_numbers(text)
    return any(kind.search(said) for kind in (_HELD, _HEART, _CONTRAST_PHASES, _AGENTS, _SCANS))
