"""nnU-Net v2 extension for the internal gross tumour volume (IGTV) of lung tumours from PET/CT."""

__version__ = "0.1.0"
