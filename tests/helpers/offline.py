"A process that cannot reach beyond its own machine: by Python's audit events, so by whatever library it is tried"
import socket, sys

local = {'', 'localhost', '127.0.0.1', '::1', '0.0.0.0', '::', socket.gethostname(), None}
tried = []

def _host(o): return o.decode() if isinstance(o, bytes) else o

def _hook(event, args):
    # other families stay on the machine
    if event in ('socket.connect', 'socket.sendto', 'socket.sendmsg'):
        host = args[1][0] if isinstance(args[1], tuple) else None
    elif event in ('socket.getaddrinfo','socket.gethostbyname'): host = args[0]
    else: return
    if _host(host) in local: return
    tried.append((event, _host(host)))
    raise OSError(f'no network in the tests: {event} to {_host(host)}')

def block():
    "From now on, to the end of the process"
    sys.addaudithook(_hook)
