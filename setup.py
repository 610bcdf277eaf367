"Hands the requirement lists of settings.ini to setuptools; everything else stands in pyproject.toml."
from configparser import ConfigParser
from pathlib import Path
from setuptools import setup

cfg = ConfigParser()
cfg.read(Path(__file__).with_name('settings.ini'))
reqs = lambda key: cfg['DEFAULT'][key].split('\n')[1:]

extras = {k.removesuffix('_requirements'): reqs(k) for k in cfg['DEFAULT'] if k.endswith('_requirements')}
setup(install_requires=reqs('requirements'), extras_require=extras)
