"""Studies: which series belong together, which of them are read, and the CT and PET that they give."""
