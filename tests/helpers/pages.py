"A page of the app as a browser may ask for it, with one and without"
import io, json, shutil, threading
import httpx
from browser import chromium

def png(img):
    f = io.BytesIO()
    img.save(f, 'PNG')
    return f.getvalue()

def copy_weights(run, to):
    to.mkdir()
    for f in ('model.json','model.safetensors'): shutil.copy(run/f, to)
    return to

class Page:
    "What a browser may send to a page, without one"
    def __init__(self, app, url):
        self.app,self.url,self.http = app,url,httpx.Client(base_url=url, timeout=60, trust_env=False)
        self.config = self.http.get('config').raise_for_status().json()
        self.ids = {c['props']['elem_id']: c['id'] for c in self.config['components'] if c['props'].get('elem_id')}
    def upload(self, data, name='picture.png'):
        return self.http.post('gradio_api/upload', files={'files': (name, data)})
    def sent(self, data, name='picture.png'):
        path = self.upload(data, name).raise_for_status().json()[0]
        return {'path': path, 'orig_name': name, 'meta': {'_type': 'gradio.FileData'}}
    def event(self, elem, event):
        target = [self.ids[elem],event]
        return next(d for d in self.config['dependencies'] if target in [list(t) for t in d['targets']])
    def ask(self, elem, event, data, **kwargs):
        "The outcome of an event, as the page gets it"
        session = f'{id(data)}-{threading.get_ident()}'
        r = self.http.post('gradio_api/queue/join',
                           json=dict(data=data, fn_index=self.event(elem, event)['id'], session_hash=session, **kwargs))
        if r.status_code!=200: return r.json()
        with self.http.stream('GET', 'gradio_api/queue/data', params=dict(session_hash=session)) as s:
            for line in s.iter_lines():
                if line.startswith('data:') and (m:=json.loads(line[5:]))['msg']=='process_completed': return m
    def look(self, picture, **kw):
        "Classes, map and note of a picture"
        a = {**dict(target='predicted', versus='', method='HiResCAM', layer='stage1', resize='crop', alpha=0.65), **kw}
        m = self.ask('picture', 'change',
                     [picture, a['target'], a['versus'], a['method'], a['layer'], a['resize'], a['alpha']])
        return [o or None for o in m['output']['data'][1:]] if m['success'] else m

class Browser:
    "A page in headless Chromium, and what went wrong on it"
    def __init__(self, p, url, size=(1280,1000), scheme='light'):
        self.url,self.wrong,self.browser = url,[],chromium(p)
        self.page = o = self.browser.new_page(viewport=dict(zip(('width','height'), size)), color_scheme=scheme)
        o.set_default_timeout(60_000)
        own = 'Method not implemented.' # gradio says so after an upload
        o.on('console', lambda m: m.type in ('error','warning') and m.text!=own and self.wrong.append(m.text))
        o.on('pageerror', lambda e: self.wrong.append(str(e)))
        o.on('dialog', lambda d: self.wrong.append(d.message) or d.dismiss())
        o.on('request', lambda r: r.url.startswith((url,'data:','blob:')) or self.wrong.append(r.url))
        o.on('response', lambda r: r.status>=400 and self.wrong.append(f'{r.status} {r.url}'))
        o.goto(url)
        o.wait_for_selector('#classes')
    def text(self, elem): return self.page.locator('#'+elem).inner_text()
    def shown(self, elem='map'):
        "Where the picture of an element comes from, and '' where there is none"
        return self.page.evaluate("o => document.querySelector(o)?.getAttribute('src') ?? ''", f'#{elem} img')
    def until(self, f, what):
        "Wait for something to become true"
        for _ in range(300):
            if f(): return
            self.page.wait_for_timeout(100)
        raise AssertionError(f'{what} after 30 s: {self.text("said")!r}, {self.wrong}')
    def changes(self, act, what, elem='map'):
        "Do something after which the map is another"
        old = self.shown(elem)
        act()
        self.until(lambda: self.shown(elem) not in ('', old), f'{what}: no other {elem}')
    def upload(self, data, name):
        file = dict(name=name, mimeType='image/png', buffer=data)
        self.page.locator('#picture input[type=file]').set_input_files(file)
    def choose(self, elem, label):
        self.page.locator(f'#{elem} input').click()
        self.page.get_by_role('option', name=label, exact=True).click()
    def classes(self): return self.text('classes')
