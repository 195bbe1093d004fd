"""Standardised uptake value by body weight (SUVbw, g/ml) from the headers of a PET series.

    SUVbw = rescaled value x factor,    factor = body weight [g] / activity [Bq] at the reference time

The reference time is the moment to which the scanner corrected the decay. One file per question:

    factors.py     the rule: which units and which decay correction give which factor
    reference.py   to which moment was the decay corrected: which source counts
    sources.py     what the headers say of that moment
    injection.py   when was the activity injected
    activity.py    how much was injected, in which unit
    nuclides.py    which nuclide, which half-life, what is usual for it
    body.py        weight, and the other body measures that SUVs are related to
    moments.py     dates, times and time zones of DICOM
    headers.py     values of headers, and the refusal

Every source of a value is compared with the others of the same value. What contradicts itself or cannot be
known is refused by name, never guessed. `docs/suv.md` has the rules as tables.
"""

from nnunet_igtv.suv.factors import SUVResult, suv_factors

__all__ = ["SUVResult", "suv_factors"]
