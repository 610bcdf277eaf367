"A headless Chromium for the tests that look at pages"
import shutil
import pytest

def chromium(p):
    "Playwright's own browser, or one of this machine; the test is skipped where there is none"
    found = next(filter(None, map(shutil.which, ('chromium-headless-shell','chromium','chromium-browser','google-chrome'))), None)
    for kw in ({}, dict(executable_path=found, args=['--no-sandbox'])):
        try: return p.chromium.launch(**kw)
        except Exception as e: why = str(e).splitlines()[0]
    pytest.skip(f'no Chromium: playwright install chromium ({why})')
