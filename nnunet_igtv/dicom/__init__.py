"""Reading DICOM: files, headers, frames, pixels, geometry and series. Nothing here knows nnU-Net."""
