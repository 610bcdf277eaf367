-- What the pages of the site need beyond what nbdev and Quarto do:
-- columns of a table take the width of what they hold, cells that check refusals are folded, the cell that installs
-- the package on Colab is left out, and so is a link to the source while the repository has no address.

local function starts(s, t) return s:sub(1, #t)==t end

function Table(t)
  for i,c in ipairs(t.colspecs) do t.colspecs[i] = {c[1]} end -- no share of the page by the length of dashes
  return t
end

-- `with expect_fail(…)` and the tests beside it, and nothing that a reader looks at
local function only_checks(code)
  local refusal = false
  for l in code:gmatch('[^\n]+') do
    if starts(l, 'with expect_fail(') then refusal = true
    elseif not (starts(l, 'test_eq(') or starts(l, 'shutil.rmtree(') or l:match('^[%s#)]')) then return false end
  end
  return refusal
end

function Div(d)
  local code = d.content[1]
  if d.classes:includes('cell') and code and code.t=='CodeBlock' and
     code.text:find("find_spec('cifar_fastai') is None", 1, true) then return {} end
  if not FORMAT:match('html') or not d.classes:includes('cell') or #d.content>1 then return end
  if code and code.t=='CodeBlock' and only_checks(code.text) then
    return {pandoc.RawBlock('html', '<details class="code-fold"><summary>What is refused</summary>'), d,
            pandoc.RawBlock('html', '</details>')}
  end
end

function Link(l) if l.target:match('^/?blob/') then return {} end end
