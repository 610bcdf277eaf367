"""A pseudo-terminal as a user has it, and what then stands on its screen. `Terminal(argv)` starts a command in one
of its own;
within `on_terminal()` this process prints to one."""
import contextlib, errno, fcntl, os, pty, re, select, struct, subprocess, sys, termios, threading, time

def screen(raw):
    "The lines as they stand after carriage returns, and what was printed over"
    lines,col = [[]],0
    for c in raw:
        if c=='\r': col = 0
        elif c=='\n': lines.append([])
        else:
            lines[-1] += ' '*(col-len(lines[-1]))
            lines[-1][col:col+1] = c
            col += 1
    return '\n'.join(''.join(o).rstrip() for o in lines)

def opened(columns):
    fd,child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack('HHHH', 50, columns, 0, 0))
    return fd,child

def read(fd):
    "What is there to read; '' at the end"
    try: return os.read(fd, 65536).decode(errors='replace')
    except OSError as e:
        if e.errno!=errno.EIO: raise
        return ''

class Terminal:
    # it leads a session whose terminal this is, so that Ctrl-C reaches it as in a shell
    leader = (
        'import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])'
    )

    def __init__(self, argv, columns=120, **kwargs):
        self.raw = ''
        self.fd,child = opened(columns)
        argv = [sys.executable, '-S', '-c', self.leader, *map(str, argv)]
        self.p = subprocess.Popen(argv, stdin=child, stdout=child, stderr=child, start_new_session=True, **kwargs)
        os.close(child)

    def __enter__(self): return self
    def __exit__(self, *args):
        if self.p.poll() is None: self.p.kill()
        self.p.wait()
        os.close(self.fd)

    def until(self, pattern, seconds=120):
        "Read until `pattern` comes, from here on"
        start,end = len(self.raw),time.time()+seconds
        while not re.search(pattern, self.raw[start:]):
            assert time.time()<end, f'no {pattern!r} on\n{self.screen}'
            if select.select([self.fd], [], [], 1)[0]:
                new = read(self.fd)
                assert new, f'it ended without {pattern!r}:\n{self.screen}'
                self.raw += new

    def ctrl_c(self): os.write(self.fd, b'\x03')

    def wait(self):
        "The exit code, once all is read"
        while new := read(self.fd): self.raw += new
        return self.p.wait(60)

    @property
    def screen(self): return screen(self.raw)

@contextlib.contextmanager
def on_terminal(monkeypatch, columns=120):
    "Let this process print to a pseudo-terminal; yields a list that holds its text afterwards"
    import fastprogress.fastprogress as fp
    fd,child = opened(columns)
    got,res = [],[]
    def keep():
        while new := read(fd): got.append(new)
    reader = threading.Thread(target=keep)
    reader.start()
    with open(child, 'w') as f, monkeypatch.context() as m:
        m.setattr(sys, 'stdout', f); m.setattr(fp, 'stdout', f); m.setenv('COLUMNS', str(columns))
        try: yield res
        finally: f.flush()
    reader.join(10)
    os.close(fd)
    res.append(''.join(got))
