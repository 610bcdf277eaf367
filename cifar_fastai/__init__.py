__version__ = "0.1.0"

import warnings
# fastai 2.8.12 says this on import under torch 2.15: nothing a user of this package could fix
warnings.filterwarnings('ignore', message=r'`torch\.jit\.script` is deprecated', category=FutureWarning)
