# The public names, listed once: lazy_loader reads this file when the package is imported; type checkers and
# editors read it in place of __init__.py. ASCII only: lazy_loader opens it in the encoding of the locale.

from .architectures import build_network as build_network
from .dataset_conversion.convert import convert as convert
from .errors import IGTVError as IGTVError
from .evaluation import evaluate as evaluate
from .export import write_rtstruct as write_rtstruct
from .export import write_seg as write_seg
from .prediction import Model as Model
from .prediction import predict as predict
from .structures.rasterise import read_structure as read_structure
from .studies.images import read_ct as read_ct
from .studies.images import read_pet as read_pet
from .weights import load_pretrained as load_pretrained

__version__: str
