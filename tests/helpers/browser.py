"What tests in a browser share"
import shutil
import pytest

def chromium(p):
    "Playwright's own browser, or one of this machine; the test is skipped where there is none"
    names = 'chromium-headless-shell','chromium','chromium-browser','google-chrome'
    found = next(filter(None, map(shutil.which, names)), None)
    for kw in ({}, dict(executable_path=found, args=['--no-sandbox'])):
        try: return p.chromium.launch(**kw)
        except Exception as e: why = str(e).splitlines()[0]
    pytest.skip(f'no Chromium: playwright install chromium ({why})')

# contrast of each text with the nearest ground behind it, as WCAG reckons it
contrast = '''() => {
  const rgb = s => s.match(/[\\d.]+/g).map(Number), lin = v => (v/=255)<=0.03928 ? v/12.92 : ((v+0.055)/1.055)**2.4
  const lum = c => 0.2126*lin(c[0])+0.7152*lin(c[1])+0.0722*lin(c[2])
  const ground = e => {
    for (; e; e=e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor)
      if (c.length<4 || c[3]>0) return c
    }
    return [255,255,255]
  }
  const ratio = e => {
    const [a,b] = [lum(rgb(getComputedStyle(e).color)), lum(ground(e))].sort((x,y) => y-x)
    return (a+0.05)/(b+0.05)
  }
  const texts = 'p,a,b,h1,h2,th,td,dt,dd,caption,figcaption,summary,li,code'
  return [...document.querySelectorAll(texts)].filter(e => e.innerText && e.getClientRects().length).map(ratio)
}'''
