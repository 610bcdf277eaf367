"A short run of the fuzzer; `python tests/robustness/fuzz_readers.py --minutes 10` is the long one."
import pytest
from fuzz_readers import fuzz, readers

@pytest.mark.parametrize('name,n', dict(image=300, batch=300, archive=150, network=15, run_folder=60).items())
def test_readers(name, n):
    assert name in readers
    res = fuzz(name, n=n, seed=1)
    assert not res['findings'], res['findings'][0]
    # neither all nor nothing gets through
    assert res['executions']==n and res['refused']>n/10 and (res['accepted'] or name=='network')
