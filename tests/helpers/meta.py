"What PyTorch lacks for its device 'meta', whose tensors hold no numbers"
import torch

class MetaGenerator(torch.Generator):
    device = torch.device('meta')
    def __new__(cls, device=None): return super().__new__(cls)
