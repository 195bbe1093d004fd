"""PET/CT cohorts -> nnU-Net raw datasets: the case, the writer of a dataset, and one source per layout."""
