"""A process that imports the package once and forks for every command: each child is a process of its own, to be
killed at a given moment,
without the seconds that an import takes. `python forked.py` is the server; `Forks` starts it and talks to it."""
import fnmatch, json, os, pathlib, signal, subprocess, sys, time

def die(): os.kill(os.getpid(), signal.SIGKILL)

class Aim:
    "Kill the own process at the `n`-th time that `event` happens to a file named like `file`, or at a batch"
    def __init__(self, event, file='*', n=1, epoch=0, batch=0):
        self.event,self.file,self.left,self.epoch,self.batch = event,file,n,epoch,batch
        getattr(self, event)()

    def hit(self, path):
        if not fnmatch.fnmatch(os.path.basename(str(path)), self.file): return False
        self.left -= 1
        return self.left==0

    def writing(self): # half of the file is on the disk, under its temporary name
        old = os.fsync
        def fsync(fd):
            if self.hit(os.readlink(f'/proc/self/fd/{fd}')): os.truncate(fd, os.fstat(fd).st_size//2); die()
            old(fd)
        os.fsync = fsync

    def written(self, after=False): # all of it, still under that name; or moved to its own
        old = os.replace
        def replace(a, b):
            hit = self.hit(b)
            if hit and not after: die()
            old(a, b)
            if hit: die()
        os.replace = replace
    def replaced(self): self.written(after=True)

    def removing(self, after=False, name='unlink'):
        old = getattr(pathlib.Path, name)
        def f(p, *args, **kw):
            hit = self.hit(p)
            if hit and not after: die()
            old(p, *args, **kw)
            if hit: die()
        setattr(pathlib.Path, name, f)
    def removed(self): self.removing(after=True)

    def step(self, training=True):
        from cifar_fastai.history import History
        old = History.after_batch
        def after_batch(h):
            old(h)
            if bool(h.training)==training and (h.epoch,h.iter)==(self.epoch,self.batch): die()
        History.after_batch = after_batch
    def validation(self): self.step(training=False)

def child(req):
    fd = os.open(req['log'], os.O_WRONLY|os.O_CREAT|os.O_APPEND)
    for o in (1,2): os.dup2(fd, o)
    os.environ.update(req['env'])
    if req['aim']: Aim(**req['aim'])
    from cifar_fastai.cli import cifar_train
    code = 3 # a traceback
    try: code = cifar_train(req['argv'])
    except SystemExit as e: code = e.code or 0
    except BaseException:
        import traceback; traceback.print_exc()
    finally:
        sys.stdout.flush(); sys.stderr.flush()
        os._exit(code)

def serve():
    import torch, matplotlib.pyplot as plt
    import cifar_fastai.train as training
    torch.set_num_threads(1)
    # curves take longer to draw than these runs to train
    training.plot_history = training.plot_lr = lambda *args: plt.figure(figsize=(1,1))
    print('ready', flush=True)
    for line in sys.stdin:
        req = json.loads(line)
        start,codes,pids = time.time(),{},[]
        for _ in range(req['copies']):
            pids.append(os.fork())
            if pids[-1]==0: child(req)
        while len(codes)<len(pids):
            for p in set(pids)-set(codes):
                done,st = os.waitpid(p, os.WNOHANG)
                if not done and time.time() - start > req['kill_after']:
                    os.kill(p, signal.SIGKILL)
                    done, st = os.waitpid(p, 0)
                if done: codes[p] = os.waitstatus_to_exitcode(st)
            time.sleep(0.002)
        print(json.dumps([[codes[p] for p in pids], time.time()-start]), flush=True)
    os._exit(0)

class Forks:
    "The server as the tests see it"
    def __enter__(self):
        env = {**os.environ, 'OMP_NUM_THREADS': '1', 'MPLBACKEND': 'Agg', 'PYTHONWARNINGS': 'ignore'}
        self.p = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )
        assert self.p.stdout.readline()=='ready\n'
        return self
    def __exit__(self, *args): self.p.stdin.close(); self.p.wait(60); self.p.stdout.close()
    def run_copies(self, argv, log, aim=None, kill_after=300., env=None, copies=2):
        """Exit codes (negative: the signal that ended it) and seconds of `copies` processes at once that do
        `cifar-train` with these arguments"""
        self.p.stdin.write(
            json.dumps(
                dict(
                    argv=[str(o) for o in argv],
                    log=str(log),
                    aim=aim,
                    kill_after=kill_after,
                    env=env or {},
                    copies=copies,
                )
            )
            + '\n'
        )
        self.p.stdin.flush()
        return json.loads(self.p.stdout.readline())
    def run(self, argv, log, **kw):
        codes,seconds = self.run_copies(argv, log, copies=1, **kw)
        return codes[0],seconds

if __name__=='__main__': serve()
