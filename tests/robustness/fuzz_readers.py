"""Mutated files for all that reads files from elsewhere: only `InputError` may come out, in bounded time and memory.

    python tests/robustness/fuzz_readers.py --minutes 10 --seed 0 --out results/fuzz-readers.json

Each reader gets a share of the time in a process of its own, so that one that crashes is a finding like any other."""
import argparse, base64, gzip, io, json, os, pickle, platform, random, resource, struct, subprocess, sys, tarfile, tempfile, time
from pathlib import Path
import numpy as np
from PIL import Image
from cifar_fastai.core import InputError

most_seconds,most_mb = 5,700 # of the processor for one file, and memory above what the process has at rest

# ---- mutation

def mutate(r, b, others):
    "The bytes `b` with one to eight changes, drawn by `r`"
    b = bytearray(b)
    for _ in range(r.choice((1,1,2,3,8))):
        if not b: break
        i,n = r.randrange(len(b)),min(r.choice((1,2,4,8,64)), len(b))
        how = r.randrange(8)
        if   how==0: b[i] ^= 1<<r.randrange(8)
        elif how==1: b[i:i+n] = r.randbytes(n)
        elif how==2: del b[i:i+n]
        elif how==3: b[i:i] = b[i:i+n]
        elif how==4: b[i:i+n] = r.choice((b'\0', b'\xff', b'0', b'9', b'\x7f'))*n
        elif how==5: b[i:i+4] = struct.pack(r.choice('<>')+'I', r.choice((0, 1, 2**16, 2**31-1, 2**31, 2**32-1)))
        elif how==6: del b[i:]
        else:
            o = r.choice(others)
            j = r.randrange(len(o)+1)
            b[i:i] = o[j:j+n]
    return bytes(b)

values = [
    None, True, False, 0, -1, 1, 3, 2**31, 10**30, 0.5, 1e308, float('nan'), float('inf'), -0.1, '', 'x', '../x',
    'a\0b', '\x1b[2J', 'é'*50, [], {}, [1], [[]], {'a': 1}, [0.5]*3, list(range(101))]

def mutate_json(r, d):
    "Plain data with a few values changed, added or left out"
    d = json.loads(json.dumps(d))
    for _ in range(r.choice((1,1,2,4))):
        at = d
        while isinstance(at, (dict,list)) and at:
            k = r.choice(list(at)) if isinstance(at, dict) else r.randrange(len(at))
            if isinstance(at[k], (dict,list)) and at[k] and r.random()<0.6: at = at[k]; continue
            how = r.randrange(4)
            if how<2: at[k] = r.choice(values)
            elif how==2: del at[k]
            elif isinstance(at, dict): at[r.choice(('x', 'base', 'name', '', k))] = r.choice(values)
            else: at.insert(k, r.choice(values))
            break
    return d

# ---- readers: each gives the well-formed files, and a function of the bytes

def saved(img, fmt, **kw):
    f = io.BytesIO(); img.save(f, fmt, **kw)
    return f.getvalue()

def image(tmp):
    from cifar_fastai.images import open_image
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (13,17,3), dtype=np.uint8))
    modes = {o: rgb.convert(o) for o in ('RGB','RGBA','L','P','1','LA','CMYK')}
    modes['I;16'] = Image.fromarray(rng.integers(0, 65536, (13,17), dtype=np.uint16))
    modes['F'] = Image.fromarray(rng.random((13,17), dtype=np.float32))
    exif = Image.Exif(); exif[0x112] = 6
    files = []
    for fmt in 'PNG JPEG GIF BMP TIFF WEBP PPM TGA ICO JPEG2000 QOI AVIF DIB'.split():
        for img in modes.values():
            for kw in ({}, dict(exif=exif)) if fmt in ('PNG','JPEG','TIFF','WEBP') else ({},):
                try: files.append(saved(img, fmt, **kw))
                except (OSError, ValueError, KeyError): pass # a kind that this format or build has not
    files += [saved(rgb, 'TIFF', compression=o) for o in ('tiff_lzw','tiff_adobe_deflate','packbits')]
    files += [saved(rgb, 'JPEG', progressive=True), saved(modes['P'], 'GIF', save_all=True, append_images=[modes['P']])]
    def read(b):
        img = open_image(b)
        assert img.mode=='RGB' and min(img.size)>=1
    return files,mutate,read

def drawn(n, seed=0):
    r = np.random.default_rng(seed)
    return dict(
        batch_label='drawn', labels=r.integers(0, 10, n).tolist(),
        data=r.integers(0, 256, (n,3072), dtype=np.uint8), filenames=[f'{i}.png' for i in range(n)])

class Runs:
    "What a pickle that runs a command holds"
    def __init__(self, f, *args): self.o = f,args
    def __reduce__(self): return self.o

def batch(tmp):
    from cifar_fastai.sources import _read_batch
    files = [pickle.dumps(drawn(n), p) for n in (1,3) for p in range(6)]
    files += [pickle.dumps(Runs(os.system, f'touch {tmp}/harm'), p) for p in (0,2,4)]
    short = {'labels': [1,2], 'data': (1,b'x'*40,None,True,{})} # where a change hits an instruction, not a pixel
    small = [pickle.dumps(short, p) for p in range(6)]
    def read(b):
        x,y = _read_batch(b, 'b')
        assert x.dtype==np.uint8 and x.shape==(len(y),32,32,3) and set(y)<=set(range(10))
    return files+small,mutate,read

def archive(tmp):
    from cifar_fastai.sources import _batch_names, _read_archive
    def tar(fmt, names, kind=tarfile.REGTYPE):
        f = io.BytesIO()
        with tarfile.open(fileobj=f, mode='w', format=fmt) as t:
            for i,nm in enumerate(names):
                m = tarfile.TarInfo(nm); m.type,m.linkname = kind,'/etc/passwd'
                raw = pickle.dumps(drawn(1, i), 2)[:600] if kind==tarfile.REGTYPE else b''
                m.size = len(raw); t.addfile(m, io.BytesIO(raw))
        return f.getvalue()
    names = [f'cifar-10-batches-py/{o}' for o in _batch_names]
    formats = tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT
    tars = [tar(f, names) for f in formats] + [tar(f, ['x'*300+'/data_batch_1', '../up', '/abs']) for f in formats[1:]]
    tars += [tar(formats[1], names, k) for k in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE)]
    path = Path(tmp)/'a.tar.gz'
    def change(r, b, others): # within the archive, whose checksums are made right again, or of what is packed
        if r.random()<0.2: return mutate(r, gzip.compress(b, 1), [gzip.compress(o[:2000], 1) for o in others[:2]])
        b = bytearray(mutate(r, b, others))
        for i in range(0, len(b)-511, 512):
            if b[i+257:i+262]==b'ustar':
                b[i+148:i+156] = b' '*8
                b[i+148:i+156] = b'%06o\0 '%sum(b[i:i+512])
        return gzip.compress(bytes(b), 1)
    def read(b):
        path.write_bytes(b)
        assert set(_read_archive(path))<=set(_batch_names)
    return tars,change,read

def network(tmp):
    from dataclasses import asdict
    from cifar_fastai.recipes import recipes
    from cifar_fastai.runs import load_weights, save_weights
    from cifar_fastai.models import resnet18
    good = Path(tmp)/'good'
    save_weights(resnet18(width=1), good, [f'c{i}' for i in range(10)], ((.5,)*3,(.2,)*3), 32)
    j,w = json.loads((good/'model.json').read_text()),(good/'model.safetensors').read_bytes()
    j.pop('weights_sha256') # else every change of the weights would be found by it alone
    n = struct.unpack('<Q', w[:8])[0]
    bad = Path(tmp)/'bad'; bad.mkdir()
    source = dict(name='s', path='p', fingerprint='f', n_train=10, n_valid=2)
    (bad/'config.json').write_text(json.dumps(dict(recipe=asdict(recipes['R1']), lr=0.1, source=source)))
    def change(r, b, others):
        which = r.randrange(4)
        text = json.dumps(mutate_json(r, j) if which==0 else j).encode()
        if which==1: text = mutate(r, text, [b'{}[]":,'])
        if which==2: # the header, its length made right again more often than not
            h = w[8:8+n]
            h = json.dumps(mutate_json(r, json.loads(h))).encode() if r.random()<0.5 else mutate(r, h, [w[8:200]])
            size = len(h) if r.random()<0.8 else r.choice((0, 1, 2**32, 2**62, 2**64-1))
            return text+b'\0\0\0\0'+struct.pack('<Q', size)+h+w[8+n:]
        return text+b'\0\0\0\0'+(mutate(r, w, [w[:500]]) if which==3 else w)
    def read(b):
        text,_,weights = b.partition(b'\0\0\0\0')
        (bad/'model.json').write_bytes(text); (bad/'model.safetensors').write_bytes(weights)
        model,_ = load_weights(bad)
        assert all(v.isfinite().all() for v in model.state_dict().values())
    return [b''],change,read

def run_folder(tmp):
    "`config.json`, `metrics.json`, recipe, record and `history.csv`"
    from dataclasses import asdict
    from cifar_fastai.experiments import ablation_table, results_table
    from cifar_fastai.recipes import make_recipe, recipes
    from cifar_fastai.runs import Run
    d = Path(tmp)/'run'; d.mkdir()
    config = dict(recipe=asdict(recipes['R1']), lr=0.1, source=dict(
        name='s', path='p', fingerprint='f', n_train=10, n_valid=2))
    seed = dict(seed=0, acc=0.5, seconds=1.5, hardware='h', precision='fp32', history=[{'epoch': 1}])
    record = dict(
        label='R1', recipe=config['recipe'], full=True, validated_on='test images', source=config['source'],
        mean=0.5, std=None, n_seeds=1, tta={'flip': [0.5,None]}, seeds=[seed])
    eff = dict(rows={k: dict(changes={'bs': 3}, acc=[0.5], seconds=[1.], effect=0.1, se=None) for k in ('base','a')})
    csv = b'epoch,lr,train_loss,valid_acc,valid_n,seconds\n1,0.1,2.3,0.5,50,1.5\n2,0.1,2.2,0.6,50,1.5\n'
    (d/'records').mkdir()
    files = [
        ('config.json', config), ('metrics.json', dict(completed=True, final={})), ('recipe', config['recipe']),
        ('records/a.json', record), ('ablation.json', eff)]
    def change(r, b, others):
        if r.random()<0.2: return b'history.csv\n'+mutate(r, csv, [b',\n"\0'])
        nm,o = r.choice(files)
        text = (
            json.dumps(mutate_json(r, o)).encode()
            if r.random() < 0.7
            else mutate(r, json.dumps(o).encode(), [b'{}[]":,'])
        )
        return nm.encode()+b'\n'+text
    def read(b):
        nm,_,text = b.partition(b'\n'); nm = nm.decode()
        for k,o in files[:2]: (d/k).write_text(json.dumps(o))
        (d/nm).write_bytes(text) if nm!='recipe' else None
        if nm!='history.csv': (d/'history.csv').unlink(missing_ok=True)
        if nm=='history.csv': Run(d)
        elif nm=='recipe':
            from cifar_fastai.core import read_json
            (d/'r.json').write_bytes(text); make_recipe(read_json(d/'r.json'))
        elif nm=='records/a.json': results_table(d/'records')
        elif nm=='ablation.json': ablation_table(d/nm)
        else: Run(d)
    return [b''],change,read

readers = dict(image=image, batch=batch, archive=archive, network=network, run_folder=run_folder)

# ---- the loop

def fuzz(name, seconds=None, n=None, seed=0, keep=None):
    "Try the reader `name` on the well-formed files, then on changed ones, for `seconds` or `n` times; what came of it"
    with tempfile.TemporaryDirectory() as tmp:
        files,change,read = readers[name](tmp)
        res = dict(
            reader=name, seed=seed, well_formed=len(files), executions=0, accepted=0, refused=0, slowest=0.,
            findings=[])

        def rss():
            return (
                resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform != 'darwin' else 1024) / 1024
            )

        for b in files:
            if b: 
                try: read(b)
                except InputError: pass
        at_rest,r,start = rss(),random.Random(f'{name} {seed}'),time.perf_counter()
        while (res['executions']<n if n else time.perf_counter()-start<seconds) and len(res['findings'])<20:
            b = change(r, r.choice(files), files)
            if keep: Path(keep).write_bytes(b)
            t,found = time.process_time(),None
            try:
                read(b)
                res['accepted'] += 1
            except InputError as e:
                res['refused'] += 1
                if '\n' in str(e) or len(str(e)) > 3000:
                    found = f'a message of {len(str(e))} characters: {str(e)[:100]!r}'
            except BaseException as e:
                found = f'{type(e).__name__}: {str(e)[:300]}'
            t = time.process_time()-t
            res['slowest'],res['executions'] = max(res['slowest'], round(t, 3)),res['executions']+1
            if t>most_seconds: found = f'{t:.1f} s'
            if rss()-at_rest>most_mb: found,at_rest = f'{rss()-at_rest:.0f} MB',rss()
            if (Path(tmp)/'harm').exists(): found = 'a command was run'; (Path(tmp)/'harm').unlink()
            file = base64.b64encode(b[:20_000]).decode()
            if found: res['findings'].append(dict(what=found, execution=res['executions'], file=file))
        res.update(seconds=round(time.perf_counter()-start, 1), mb_over_rest=round(rss()-at_rest))
        return res

def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--minutes', type=float, default=10)
    p.add_argument('--seed', type=int, default=0)
    p.add_argument('--out', default='results/fuzz-readers.json')
    p.add_argument('--reader', choices=readers, help='only this one, its result as JSON on the last line')
    p.add_argument('--keep', help='file for the input in hand')
    args = p.parse_args()
    if args.reader: return print(json.dumps(fuzz(args.reader, 60*args.minutes, seed=args.seed, keep=args.keep)))
    share,all_ = args.minutes/len(readers),[]
    for name in readers:
        with tempfile.TemporaryDirectory() as tmp:
            cmd = [
                sys.executable, __file__, '--reader', name, '--minutes', str(share), '--seed', str(args.seed),
                '--keep', f'{tmp}/input']
            done = subprocess.run(cmd, capture_output=True, text=True)
            if done.returncode==0: res = json.loads(done.stdout.splitlines()[-1])
            else: res = dict(
                reader=name, seed=args.seed, executions=0, seconds=0,
                findings=[dict(what=f'the process died with {done.returncode}: {done.stderr[-300:]}',
                    file=base64.b64encode(Path(f'{tmp}/input').read_bytes()[:20_000]).decode())])
        print({k: v for k,v in res.items() if k!='findings'}, f"{len(res['findings'])} findings", flush=True)
        all_.append(res)
    from importlib.metadata import version
    rec = dict(
        command=f'python tests/robustness/fuzz_readers.py --minutes {args.minutes:g} --seed {args.seed}',
        executions=sum(o['executions'] for o in all_),
        seconds=round(sum(o['seconds'] for o in all_), 1),
        findings=sum(len(o['findings']) for o in all_),
        readers=all_,
        limits=dict(seconds=most_seconds, mb=most_mb),
        versions={
            **{o: version(o) for o in ('pillow', 'numpy', 'torch', 'safetensors')},
            'python': platform.python_version(),
        },
    )
    Path(args.out).write_text(json.dumps(rec, indent=1)+'\n')
    return 1 if rec['findings'] else 0

if __name__=='__main__': raise SystemExit(main())
