"""nnU-Net v2 extension for the internal gross tumour volume (IGTV) of lung tumours from PET/CT.

The public functions, each imported when it is first used (`__init__.pyi` has the list). Importing the package
itself imports neither torch nor SimpleITK.

    read_ct, read_pet, read_structure     DICOM -> SimpleITK images (HU, SUVbw, 0 and 1)
    convert                               cohort of studies -> nnU-Net raw dataset
    build_network, load_pretrained        the network (torch), and weights for it
    predict, Model                        study and trained model -> mask on the CT
    evaluate                              masks against the truth -> scores and a report
    write_rtstruct, write_seg             mask -> DICOM RTSTRUCT, DICOM-SEG
    IGTVError                             what all of them raise for input that they refuse
"""

import lazy_loader

__version__ = "0.2.0"  # the only place; pyproject.toml reads it from here

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
