"""DICOM structure sets: what their contours mean, and which voxels of an image they enclose."""
