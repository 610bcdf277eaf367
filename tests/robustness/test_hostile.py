"Files made to do harm: each gives one clear line, no command is run, nothing is written, little memory is taken."
import gzip, io, json, os, pickle, resource, shutil, stat, struct, subprocess, tarfile, zipfile, zlib
import numpy as np, pytest, torch
from pathlib import Path
from PIL import Image
from safetensors.torch import load_file, save, save_file
from cifar_fastai.experiments import ablate, ablation_table, results_table
from cifar_fastai.cli import main
from cifar_fastai.core import InputError
from cifar_fastai.runs import load_weights, Run
from cifar_fastai.recipes import Recipe, get_recipe
from cifar_fastai.train import resume, train
from cifar_fastai.sources import load_source
from cifar_fastai.images import open_image
from messages import tree

batches = [f'data_batch_{i}' for i in range(1,6)]+['test_batch']

def drawn(n=2): return dict(labels=[1]*n, data=np.zeros((n,3072), np.uint8), filenames=['a']*n, batch_label='b')
good = pickle.dumps(drawn(), 2)

class Runs:
    "A pickle that calls `f` when it is read"
    def __init__(self, f, *args): self.o = f,args
    def __reduce__(self): return self.o
def runs(f, *args): return pickle.dumps(Runs(f, *args), 2)
touch = 'touch harm'

@pytest.fixture
def room(tmp_path, monkeypatch):
    "A folder to work in, a home of its own for caches, and a check that nothing changed and no memory was taken"
    monkeypatch.setenv('FASTAI_HOME', str(tmp_path/'home'))
    (tmp_path/'work').mkdir(); monkeypatch.chdir(tmp_path/'work')
    return tmp_path/'work'

def refused(f, *says):
    "Call `f`: it must raise one line that holds `says`, and leave files and memory as they are"
    top = Path.cwd().parent
    before,mem = tree(top),resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError) as e: f()
    text = str(e.value)
    assert '\n' not in text and text.isprintable() and len(text)<2100 and all(o in text for o in says), text
    assert tree(top)==before and not list(top.rglob('harm'))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss-mem<500_000, 'half a gigabyte for a small file'

# ---- pickles

long_text = b'X'+struct.pack('<I', 10**6)+b'a'*10**6
pickles = dict(
    os_system=runs(os.system, touch), popen=runs(subprocess.Popen, ['touch','harm']),
    evaluates=runs(eval, f"__import__('os').system('{touch}')"),
    executes=runs(exec, f"import os; os.system('{touch}')"), opens=runs(open, 'harm', 'w'),
    gets_attributes=b'cbuiltins\ngetattr\n(cos\nenviron\nS\'clear\'\ntR(tR.',
    imports=b"cimportlib\nimport_module\n(S'antigravity'\ntR.", loads_more=runs(np.load, 'x.npy'),
    inst=b"(S'touch harm'\nios\nsystem\n.", obj=b"(cos\nsystem\nS'touch harm'\no.",
    newobj=b'\x80\x02cos\nsystem\nX\x0a\x00\x00\x00touch harm\x85\x81.',
    stack_global=b'\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0atouch harm\x85R.',
    dotted=b'\x80\x04\x8c\x05numpy\x8c\x0cndarray.dump\x93.', extension=b'\x80\x02\x82\x01.',
    persistent=b'Pid\n.', persistent_2=b'\x80\x02Nq\x00Q.', builds=b'\x80\x02}}X\x01\x00\x00\x00ab0.',
    sets_state=b'\x80\x02](K\x01eb.', sets_dict=b"\x80\x02}}X\x09\x00\x00\x00__class__K\x01sb.",
    rot13=b'\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.',
    codec=b'\x80\x02c_codecs\nlookup\nX\x01\x00\x00\x00a\x85R.',
    escapes=b'\x80\x04\x8c\x04\x1b[2J\x8c\x03a\nb\x93.', memo_bomb=b'\x80\x02}r\xff\xff\xff\x7f.',
    bytes_bomb=b'\x80\x04\x8e'+struct.pack('<Q', 2**40)+b'.',
    bytearray_bomb=b'\x80\x05\x96'+struct.pack('<Q', 2**33)+b'.',
    hash_bomb=b'\x80\x02})q\x00'+b'h\x00h\x00\x86q\x00'*60+b'Ns.',
    copies_bomb=b'\x80\x02'+long_text+b'q\x00'+b'c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R'*5000+b'.',
    depth_bomb=b'\x80\x02'+b']'*100_000+b'a'*99_999+b'.', length_bomb=b'\x80\x02'+b'N'*2_000_000+b'.',
    frame_lies=b'\x80\x04\x95'+struct.pack('<Q', 2**62)+b'}.', big_number=b'L'+b'9'*100_000+b'L\n.',
    pops_nothing=b'\x80\x02aaa.', empty=b'',
    shape_lies=good.replace(b'K\x02M\x00\x0c\x86', b'J\xff\xff\xff\x7fM\x00\x0c\x86'),
    objects=pickle.dumps({**drawn(), 'data': np.array([[None]*3072]*2)}, 2),
    labels_beyond=pickle.dumps({**drawn(), 'labels': [1,10]}, 2), not_a_dict=pickle.dumps([1], 2),
    truncated=good[:-40])

def official(room, **other):
    d = room/'cifar-10-batches-py'; d.mkdir()
    for o in batches: (d/o).write_bytes(other.get(o, good))
    return d

@pytest.mark.parametrize('raw', pickles.values(), ids=pickles)
def test_pickle_as_batch(raw, room):
    d = official(room, data_batch_3=raw)
    says = 'cifar-10-batches-py/data_batch_3 is cut short or not a CIFAR-10 batch'
    refused(lambda: load_source(d), says, 'get the official file again')

def test_pickle_as_meta(room, capsys):
    (official(room)/'batches.meta').write_bytes(pickles['os_system'])
    assert len(load_source('.', cache=False))==12 and not list(room.parent.rglob('harm')) # it is not read at all

# ---- archives

def tar(members, fmt=tarfile.GNU_FORMAT, mode='w:gz'):
    "An archive of (name, bytes or a change of the header)"
    f = io.BytesIO()
    with tarfile.open(fileobj=f, mode=mode, format=fmt) as t:
        for nm,o in members:
            m = tarfile.TarInfo(nm)
            if isinstance(o, bytes): m.size = len(o); t.addfile(m, io.BytesIO(o))
            else:
                for k,v in o.items(): setattr(m, k, v)
                t.addfile(m)
    return f.getvalue()

whole = [(f'cifar-10-batches-py/{o}', good) for o in batches]
def but(last, **kw): return tar(whole[:-1]+[last], **kw)
def kind(k, **more): return ('cifar-10-batches-py/test_batch', dict(type=k, **more))
def header(size, kind_=b'x', fill=b'1'): # a header that is all name
    m = tarfile.TarInfo('x'); m.type,m.size = kind_,size
    return gzip.compress(m.tobuf()+fill*size+b'\0'*2048, 1)
def zeros(n): # without holding them
    f = io.BytesIO()
    with gzip.open(f, 'wb', 1) as z:
        m = tarfile.TarInfo('a'); m.size = n; z.write(m.tobuf(format=tarfile.GNU_FORMAT))
        for _ in range(n>>20): z.write(bytes(1<<20))
    return f.getvalue()
def zipped(*names):
    f = io.BytesIO()
    with zipfile.ZipFile(f, 'w', zipfile.ZIP_DEFLATED) as z:
        for nm in names: z.writestr(nm, good)
    return f.getvalue()
def zip_link():
    f = io.BytesIO()
    link = zipfile.ZipInfo('test_batch')
    link.external_attr = (stat.S_IFLNK|0o777)<<16
    with zipfile.ZipFile(f, 'w') as z: z.writestr(link, '/etc/passwd')
    return f.getvalue()
def chained(n): # one long name after the other, each the name of the next
    m = tarfile.TarInfo('././@LongLink'); m.type,m.size = tarfile.GNUTYPE_LONGNAME,512
    return gzip.compress((m.tobuf()+b'a'*512)*n, 1)

archives = dict(
    pickle=lambda: but(('test_batch', pickles['os_system'])),
    symbolic_link=lambda: but(kind(tarfile.SYMTYPE, linkname='/etc/passwd')),
    link_up=lambda: but(kind(tarfile.SYMTYPE, linkname='../../work')),
    hard_link=lambda: but(kind(tarfile.LNKTYPE, linkname='/etc/passwd')),
    link_to_itself=lambda: but(kind(tarfile.SYMTYPE, linkname='cifar-10-batches-py/test_batch')),
    device=lambda: but(kind(tarfile.CHRTYPE, devmajor=1, devminor=5)),
    block_device=lambda: but(kind(tarfile.BLKTYPE, devmajor=8)), pipe=lambda: but(kind(tarfile.FIFOTYPE)),
    folder=lambda: but(kind(tarfile.DIRTYPE)), only_up=lambda: tar([('../harm', b'x'), ('../../harm', b'x')]),
    only_absolute=lambda: tar([('/tmp/harm', b'x')]), zeros=lambda: zeros(2**28+2**20),
    large_batch=lambda: but(('test_batch', bytes(2**26+1))), gzip_in_gzip=lambda: gzip.compress(tar(whole)),
    size_lies=lambda: gzip.compress(gzip.decompress(tar(whole[:1]))[:600]),
    many_members=lambda: tar([(f'{i}', b'') for i in range(2000)]), long_header=lambda: header(2**22),
    long_name=lambda: header(2**22, tarfile.GNUTYPE_LONGNAME, b'a'), chained=lambda: chained(20_000),
    sparse=lambda: but(kind(tarfile.GNUTYPE_SPARSE)), empty_tar=lambda: tar([]), empty=lambda: b'',
    text=lambda: b'<html>404</html>', truncated=lambda: tar(whole)[:-20],
    bad_checksum=lambda: tar(whole)[:-8]+bytes(8), plain_tar=lambda: tar(whole, mode='w'),
    zip=lambda: zipped(*batches), zip_up=lambda: zipped('../harm', '/harm', *batches), zip_link=zip_link,
    zip_bomb=lambda: zipped('a')+zlib.compress(bytes(10**7)), png=lambda: saved(Image.new('RGB', (4,4)), 'PNG'))

def saved(img, fmt, **kw):
    f = io.BytesIO(); img.save(f, fmt, **kw)
    return f.getvalue()

@pytest.mark.parametrize('make', archives.values(), ids=archives)
def test_archive(make, room):
    f = room/'cifar-10-python.tar.gz'; f.write_bytes(make())
    refused(lambda: load_source(f), 'cifar-10-python.tar.gz', 'again')

@pytest.mark.parametrize('extra', [
    ('../harm', b'x'), ('/harm', b'x'), ('cifar-10-batches-py/../../harm', b'x'),
    ('harm', dict(type=tarfile.SYMTYPE, linkname='/etc')), ('harm/passwd', b'x'),
    ('batches.meta', pickles['os_system'])], ids=lambda o: str(o[0]))
def test_nothing_is_unpacked(extra, room):
    "What else an archive holds is passed over"
    f = room/'cifar-10-python.tar.gz'; f.write_bytes(tar([extra, *whole]))
    before = tree(room.parent)
    assert len(load_source(f, cache=False, verbose=False))==12
    assert tree(room.parent)==before and not Path('/harm').exists()

# ---- images

def chunk(kind_, data): return struct.pack('>I', len(data))+kind_+data+struct.pack('>I', zlib.crc32(kind_+data))
def png(w, h, data=b'', *more):
    head = b'\x89PNG\r\n\x1a\n'+chunk(b'IHDR', struct.pack('>IIBBBBB', w, h, 8, 2, 0, 0, 0))
    return head+b''.join(more)+chunk(b'IDAT', data)+chunk(b'IEND', b'')
eps = b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(harm) (w) file closefile\nshowpage\n%%EOF\n'
jpeg = saved(Image.new('RGB', (40,30), 'red'), 'JPEG')
images = dict(
    png_of_10_gigapixels=png(100_000, 100_000),
    png_of_90_megapixels=png(9500, 9500, zlib.compress(bytes(10**6))),
    gif_of_4_gigapixels=b'GIF89a'+struct.pack('<HHBBB', 65535, 65535, 0, 0, 0)+b',\0\0\0\0\xff\xff\xff\xff\0\2\0;',
    bmp_of_gigapixels=b'BM'+struct.pack('<IHHIIiiHHIIiiII', 54, 0, 0, 54, 40, 2**30, 2**30, 1, 24, 0, 0, 0, 0, 0, 0),
    tiff_of_gigapixels=saved(Image.new('L', (4,4)), 'TIFF').replace(
        struct.pack('<HHII', 256, 4, 1, 4), struct.pack('<HHII', 256, 4, 1, 2**30)),
    ppm_of_gigapixels=b'P6 99999 99999 255\n',
    text_bomb=png(4, 4, zlib.compress(bytes(52)), chunk(b'zTXt', b'a\0\0'+zlib.compress(bytes(10**8), 9))),
    profile_bomb=png(4, 4, b'', chunk(b'iCCP', b'a\0\0'+zlib.compress(bytes(10**8), 9))), no_pixels=png(0, 4),
    data_missing=png(40, 40, zlib.compress(bytes(100))),
    bad_checksum=png(4, 4, zlib.compress(bytes(52)))[:-20]+b'x'*20, truncated=jpeg[:len(jpeg)//2],
    header_only=jpeg[:20], postscript=eps,
    pdf=b'%PDF-1.4\n1 0 obj<</OpenAction<</S/JavaScript/JS(app.alert(1))>>>>endobj\n',
    svg=b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    html=b'<html><body>404</body></html>', zip=zipped('a'), tar=tar([('a', b'x')]), elf=b'\x7fELF'+bytes(200),
    script=b'#!/bin/sh\ntouch harm\n', pickle=pickles['os_system'], wmf=b'\xd7\xcd\xc6\x9a'+bytes(100),
    fits=b'SIMPLE  =                    T'.ljust(2880), psd=b'8BPS\0\1'+bytes(60), one_byte=b'\x89', empty=b'',
    noise=np.random.RandomState(0).bytes(3000))

@pytest.mark.parametrize('raw', images.values(), ids=images)
def test_image(raw, room):
    (room/'a.png').write_bytes(raw)
    refused(lambda: open_image(raw), 'cannot read image', 'save it as PNG or JPEG')
    refused(lambda: open_image(room/'a.png'), f"cannot read image {room/'a.png'}", 'save it as PNG or JPEG')

some = ('png_of_10_gigapixels','png_of_90_megapixels','postscript','truncated','pickle','script')
@pytest.mark.parametrize('raw', [images[o] for o in some], ids=some)
def test_image_in_a_source_and_at_the_command(raw, room, run_dir, capsys):
    for c in 'ab':
        (room/f'src/{c}').mkdir(parents=True)
        for i in range(3): Image.new('RGB', (32,32)).save(room/f'src/{c}/{i}.png')
    (room/'src/a/harmful.png').write_bytes(raw)
    refused(lambda: load_source('src'), '1 unreadable image in src: a/harmful.png', '--skip-bad')
    before = tree(room.parent)
    assert main(['predict', 'src/a/harmful.png', '--run', str(run_dir), '--device', 'cpu'])==2
    assert capsys.readouterr().err.count('\n')==1 and tree(room.parent)==before

def test_no_program_is_started_for_an_image(room, monkeypatch):
    "PostScript would be handed to Ghostscript"
    (room.parent/'bin').mkdir(); gs = room.parent/'bin/gs'; gs.write_text('#!/bin/sh\ntouch harm\n'); gs.chmod(0o755)
    monkeypatch.setenv('PATH', f"{gs.parent}:{os.environ['PATH']}")
    refused(lambda: open_image(eps), 'not an image')

@pytest.mark.parametrize('make', [
    lambda p: os.mkfifo(p), lambda p: p.symlink_to('/dev/zero'), lambda p: p.symlink_to(p), lambda p: p.mkdir(),
    lambda p: p.symlink_to('nowhere')], ids=[
    'pipe', 'device', 'link to itself', 'folder', 'broken link'])
def test_what_is_no_file(make, room):
    make(room/'a.png')
    refused(lambda: open_image(room/'a.png'), 'a.png')

def test_a_name_with_codes_for_the_terminal(room):
    (room/'a\x1b[2J\nb.png').write_text('x')
    refused(lambda: open_image(room/'a\x1b[2J\nb.png'), r'a\x1b[2J b.png')

# ---- models

def network(run_dir, room, meta=None, weights=None):
    "A copy of a run's network with other contents"
    d = room/'net'; d.mkdir()
    shutil.copy(run_dir/'config.json', d)
    j = json.loads((run_dir/'model.json').read_text())
    if meta is not None or weights is not None: j.pop('weights_sha256')
    text = meta(j) if meta else j
    (d/'model.json').write_text(text if isinstance(text, str) else json.dumps(text))
    if weights is None: shutil.copy(run_dir/'model.safetensors', d)
    else: (d/'model.safetensors').write_bytes(weights)
    return d

def with_(**kw): return lambda j: {**j, **kw}
def inner(**kw): return lambda j: {**j, 'model': {**j['model'], **kw}}
metas = dict(
    is_a_list=lambda j: [j], is_a_number=lambda j: 3, is_null=lambda j: None, is_text=lambda j: 'touch',
    is_cut=lambda j: json.dumps(j)[:-5], is_nested=lambda j: '['*100_000, is_empty=lambda j: '',
    is_a_pickle=lambda j: str(pickles['os_system']),
    lacks_vocab=lambda j: {k: v for k,v in j.items() if k!='vocab'}, vocab_is_text=with_(vocab='abcdefghij'),
    vocab_is_numbers=with_(vocab=list(range(10))), vocab_is_short=with_(vocab=['a']),
    vocab_repeats=with_(vocab=['a']*10), mean_is_text=with_(mean='0.5'), mean_is_short=with_(mean=[0.5]),
    mean_is_nan=with_(mean=[float('nan')]*3), std_is_zero=with_(std=[0,1,1]),
    std_is_negative=with_(std=[-1,1,1]), size_is_text=with_(size='32'), size_is_vast=with_(size=10**9),
    size_is_negative=with_(size=-1), size_is_true=with_(size=True), arch_is_a_list=with_(arch=[1]),
    model_is_a_list=with_(model=[1]), model_is_null=with_(model=None), width_is_vast=inner(width=10**6),
    width_is_text=inner(width='8'), width_is_other=inner(width=16), many_blocks=inner(n_blocks=[10**7]*4),
    blocks_are_text=inner(n_blocks='2222'), blocks_are_other=inner(n_blocks=[1,1,1,1]),
    classes_are_vast=inner(n_out=10**12), norm_is_code=inner(norm='__import__'),
    unknown_option=inner(forward='touch harm'))

@pytest.mark.parametrize('meta', metas.values(), ids=metas)
def test_model_json(meta, run_dir, room):
    d = network(run_dir, room, meta)
    refused(lambda: load_weights(d), 'model', 'copy')

def changed(**kw):
    def f(path):
        ws = load_file(path); ws.update({k.replace('__','.'): v(ws) for k,v in kw.items()})
        return save(ws)
    return f
def rewritten(f):
    "The file with another header"
    def g(path):
        w = path.read_bytes(); n = struct.unpack('<Q', w[:8])[0]
        h = f(json.loads(w[8:8+n])); h = h if isinstance(h, bytes) else json.dumps(h).encode()
        return struct.pack('<Q', len(h))+h+w[8+n:]
    return g
def entry(**kw): return rewritten(lambda h: {**h, 'head.bias': {**h['head.bias'], **kw}})
def raw(f): return lambda path: f(path.read_bytes())
weights = dict(
    other_shape=changed(head__bias=lambda ws: torch.zeros(9)),
    transposed=changed(head__weight=lambda ws: ws['head.weight'].T.contiguous()),
    nan=changed(head__bias=lambda ws: torch.full((10,), float('nan'))),
    infinite=changed(head__weight=lambda ws: ws['head.weight']/0),
    minus_infinite=changed(stem__1__running_mean=lambda ws: torch.full((8,), -float('inf'))),
    doubles=changed(head__bias=lambda ws: ws['head.bias'].double()),
    whole_numbers=changed(head__bias=lambda ws: ws['head.bias'].long()),
    one_more=changed(more=lambda ws: torch.zeros(3)),
    one_less=rewritten(lambda h: {k: v for k,v in h.items() if k!='head.bias'}),
    truncated=raw(lambda w: w[:-100]), cut_in_the_header=raw(lambda w: w[:50]), length_only=raw(lambda w: w[:8]),
    empty=raw(lambda w: b''), text=raw(lambda w: b'<html>404</html>'), longer=raw(lambda w: w+b'x'),
    length_of_exabytes=raw(lambda w: struct.pack('<Q', 2**62)+w[8:]),
    length_of_a_gigabyte=raw(lambda w: struct.pack('<Q', 2**30)+w[8:]),
    length_zero=raw(lambda w: bytes(8)+w[8:]), header_is_a_list=rewritten(lambda h: []),
    header_is_noise=rewritten(lambda h: b'\xff'*200), header_is_nested=rewritten(lambda h: b'['*100_000),
    offsets_beyond=entry(data_offsets=[0, 2**40]), offsets_reversed=entry(data_offsets=[40, 0]),
    offsets_negative=entry(data_offsets=[-40, 0]), offsets_overlap=entry(data_offsets=[0, 40]),
    shape_is_vast=entry(shape=[2**40]), shape_is_negative=entry(shape=[-10]), shape_is_text=entry(shape='10'),
    unknown_type=entry(dtype='F99'), a_pickle=raw(lambda w: pickles['os_system']),
    a_checkpoint=lambda path: checkpoint(Runs(os.system, touch)))

def checkpoint(o):
    f = io.BytesIO(); torch.save(o, f)
    return f.getvalue()

@pytest.mark.parametrize('make', weights.values(), ids=weights)
def test_weights(make, run_dir, room):
    d = network(run_dir, room, weights=make(run_dir/'model.safetensors'))
    refused(lambda: load_weights(d), str(d/'model.safetensors'))

def test_weights_of_another_run(run_dir, room):
    d = network(run_dir, room)
    w = load_file(d/'model.safetensors'); w['head.bias'] += 1; save_file(w, d/'model.safetensors')
    refused(lambda: load_weights(d), 'is not the file that model.json was written with')

# ---- run folders

def run_copy(run_dir, room, **files):
    d = room/'run'; d.mkdir()
    for o in ('config.json','metrics.json','history.csv'): shutil.copy(run_dir/o, d)
    for k,v in files.items(): (d/k.replace('_','.')).write_bytes(v if isinstance(v, bytes) else json.dumps(v).encode())
    return d

configs = dict(
    is_a_list=lambda c: [c], is_null=lambda c: None,
    lacks_recipe=lambda c: {k: v for k,v in c.items() if k!='recipe'},
    recipe_is_text=lambda c: {**c, 'recipe': 'plain'}, recipe_is_a_list=lambda c: {**c, 'recipe': [1]},
    recipe_has_more=lambda c: {**c, 'recipe': {**c['recipe'], 'exec': 'touch harm'}},
    epochs_is_text=lambda c: {**c, 'recipe': {**c['recipe'], 'epochs': 'one'}},
    bs_is_null=lambda c: {**c, 'recipe': {**c['recipe'], 'bs': None}},
    options_are_a_list=lambda c: {**c, 'recipe': {**c['recipe'], 'opt_kw': [1]}},
    unknown_option=lambda c: {**c, 'recipe': {**c['recipe'], 'opt_kw': {'foreach': 'touch', 'x': 1}}},
    source_is_text=lambda c: {**c, 'source': 'x'},
    source_lacks_path=lambda c: {**c, 'source': {k: v for k,v in c['source'].items() if k!='path'}},
    fingerprint_is_a_number=lambda c: {**c, 'source': {**c['source'], 'fingerprint': 3}},
    lr_is_nan=lambda c: {**c, 'lr': float('nan')}, lr_is_text=lambda c: {**c, 'lr': '0.1'})

@pytest.mark.parametrize('make', configs.values(), ids=configs)
def test_config(make, run_dir, room, source):
    d = run_copy(run_dir, room, config_json=make(json.loads((run_dir/'config.json').read_text())))
    refused(lambda: Run(d)); refused(lambda: resume(d, source, 'cpu'))

@pytest.mark.parametrize('o', [
    [1], None, {}, {'completed': 'no'}, {'completed': 0}, b'{', b'\xff\xfe', b'['*100_000], ids=str)
def test_metrics(o, run_dir, room, source):
    d = run_copy(run_dir, room, metrics_json=o)
    refused(lambda: Run(d), 'metrics.json'); refused(lambda: resume(d, source, 'cpu'), 'metrics.json')

@pytest.mark.parametrize('raw_', [
    b'epoch\nx\n', b'epoch,lr\n1,\xff\n', b'epoch\n1\0\n', b'epoch\n1,2,3\n', b'epoch\n'+b'9'*5000+b'\n',
    b'epoch\n"'+b'x'*200_000], ids=range(6))
def test_history(raw_, run_dir, room):
    d = run_copy(run_dir, room, history_csv=raw_)
    refused(lambda: Run(d).history, 'history.csv is not a history')

checkpoints = dict(
    runs_a_command=lambda: checkpoint(Runs(os.system, touch)),
    runs_within=lambda: checkpoint(dict(n_epoch=2, epoch=1, model=Runs(os.system, touch))),
    raw_pickle=lambda: pickles['os_system'], stack_global=lambda: pickles['stack_global'],
    builds_a_network=lambda: checkpoint(dict(model=torch.nn.Linear(2,2))), a_list=lambda: checkpoint([1,2]),
    another_dict=lambda: checkpoint({'weights': torch.zeros(3)}),
    truncated=lambda: checkpoint(dict(n_epoch=2, w=torch.zeros(1000)))[:-500],
    zip=lambda: zipped('archive/data.pkl'), text=lambda: b'<html>404</html>', empty=lambda: b'',
    memo_bomb=lambda: pickles['memo_bomb'])

@pytest.fixture(scope='module')
def stopped(source, tmp_path_factory):
    "A run that was cut off after one of two epochs, as far as its files show"
    d = train(
        Recipe(epochs=1, bs=50, model_kw=dict(width=8)),
        source,
        tmp_path_factory.mktemp('stopped') / 'run',
        device='cpu',
    )
    for o in ('metrics.json','model.json','model.safetensors'): (d/o).unlink()
    c = json.loads((d/'config.json').read_text())
    c['recipe']['epochs'] = 2
    (d/'config.json').write_text(json.dumps(c))
    (d/'checkpoint').mkdir()
    return d

@pytest.mark.parametrize('make', checkpoints.values(), ids=checkpoints)
def test_checkpoint(make, stopped, source, room):
    d = Path(shutil.copytree(stopped, room/'run')); (d/'checkpoint/last.pt').write_bytes(make())
    refused(lambda: resume(d, source, 'cpu'), 'last.pt')

# ---- recipes, variants and records

recipes_ = dict(
    is_a_list=[1], is_a_number=3, is_null=None, unknown_field={'exec': 'touch harm'},
    base_is_unknown={'base': '../R1'}, base_is_a_list={'base': ['R1']}, epochs_is_a_dict={'epochs': {}},
    epochs_is_vast={'epochs': 10**30}, name_is_a_list={'name': []},
    policy_is_code={'policy': '__import__("os")'}, policy_is_a_list={'policy': ['flip']},
    sizes_are_text={'sizes': ['a']}, sizes_are_nested={'sizes': [[32]]}, lr_is_nan={'lr': float('nan')},
    lr_is_a_list={'lr': [0.1]}, options_are_text={'model_kw': 'width=8'},
    width_is_vast={'model_kw': {'width': 10**9}}, option_is_nested={'sched_kw': {'pct_start': {}}},
    moms_are_text={'sched_kw': {'moms': 'abc'}}, seed_is_text={'seed': '0'}, valid_is_a_list={'valid': []},
    start_is_code={'start': 'whiten+os.system'},
    callbacks_are_a_list={'cbs': [1]}, callback_is_code={'cbs': {'__import__': {}}},
    arguments_are_a_list={'cbs': {'ema': [1]}}, argument_is_code={'cbs': {'ema': {'__class__': 1}}})

@pytest.mark.parametrize('o', recipes_.values(), ids=recipes_)
def test_recipe_file(o, room):
    (room/'r.json').write_text(json.dumps(o))
    refused(lambda: get_recipe(room/'r.json'), 'r.json')

@pytest.mark.parametrize('o', [
    [1], 3, None, {'a': 1}, {'a': [1]}, {'a': {'exec': 1}}, {'a': {'base': 'R1'}}, {'a': {'recipe': 'R1'}},
    {'../../harm': {'epochs': 0}}, {'a': {'epochs': None}}], ids=str)
def test_variants(o, source, room):
    refused(lambda: ablate(Recipe(valid=0.2), o, source, runs=room/'runs'))

record = dict(
    label='R1', recipe=dict(name='R1', epochs=1), full=True, validated_on='test images',
    source=dict(name='s', n_train=10), mean=0.5, std=None, n_seeds=1, tta={},
    seeds=[dict(seconds=1., hardware='h', precision='fp32', history=[])])
@pytest.mark.parametrize('kw', [
    dict(label=3), dict(recipe=[]), dict(recipe={}), dict(full='yes'), dict(source=None), dict(mean='x'),
    dict(std='x'), dict(tta=[1]), dict(tta={'flip': 3}), dict(tta={'flip': ['a',None]}), dict(seeds=3),
    dict(seeds=[]), dict(seeds=[3]), dict(seeds=[{}]), dict(n_seeds=None)], ids=str)
def test_record(kw, room):
    (room/'good.json').write_text(json.dumps(record)); assert '| R1 |' in results_table(room)
    (room/'r.json').write_text(json.dumps({**record, **kw}))
    refused(lambda: results_table(room), 'r.json is not a whole record')

@pytest.mark.parametrize('o', [
    [1], None, {}, {'rows': 3}, {'rows': {}}, {'rows': {'base': 3}},
    {'rows': {'base': {'changes': [], 'acc': [], 'seconds': [], 'effect': 0, 'se': None}}},
    {'rows': {'base': {'changes': {}, 'acc': ['x'], 'seconds': [1], 'effect': 0, 'se': None}}}], ids=str)
def test_effects_record(o, room):
    (room/'e.json').write_text(json.dumps(o))
    refused(lambda: ablation_table(room/'e.json'))

def test_count():
    "How many hostile files there are above"
    n = sum(map(len, (pickles, archives, images, metas, weights, configs, checkpoints, recipes_)))
    assert n>=150, n
