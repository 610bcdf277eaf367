"""What a notebook needs: `from cifar_fastai.all import *`, as with `fastai.vision.all`"""
from fastai.vision.all import *
from cifar_fastai.errors import *
from cifar_fastai.files import *
from cifar_fastai.shapes import *
from cifar_fastai.sources import *
from cifar_fastai.augment import *
from cifar_fastai.data import *
from cifar_fastai.models import *
from cifar_fastai.tricks import *
from cifar_fastai.learner import *
from cifar_fastai.diagnosis import *
from cifar_fastai.recipes import *
from cifar_fastai.interpret import *
from cifar_fastai.cam import *
from cifar_fastai.pictures import *
from cifar_fastai.trust import *
from cifar_fastai.bench import *
