() => {
  const plain = s => s // plain words where gradio's own are not
    .replace(/^Invalid file types?: (.*)\. Only .* allowed\.$/, '$1 is not a picture: choose a PNG, JPEG, WebP or GIF file.')
    .replace(/^File\(s\) exceed the maximum allowed size of ([\d.]+?)(?:\.0)? ([KMG])b: "(.*)"$/, '$3 is larger than $1 $2B, the limit of this page.')
  const rewrite = o => { const s = plain(o.textContent.trim()); if (s!==o.textContent.trim()) o.textContent = s }
  const all = () => document.querySelectorAll('[data-testid=toast-text]').forEach(rewrite)
  new MutationObserver(all).observe(document.body, {childList: true, subtree: true})
  const close = e => { // gradio leaves the list of a dropdown open after Tab
    if (e.target.matches('[role=combobox]')) e.target.dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape', bubbles: true}))
  }
  document.addEventListener('focusout', close)
}
