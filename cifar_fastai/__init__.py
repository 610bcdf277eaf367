__version__ = "0.2.0"

import os, warnings
os.environ.setdefault('NO_ALBUMENTATIONS_UPDATE', '1') # its import calls out otherwise, and waits 2 s when offline
# fastai 2.8.12 says this on import under torch 2.15: nothing a user of this package could fix
warnings.filterwarnings('ignore', message=r'`torch\.jit\.script` is deprecated', category=FutureWarning)
