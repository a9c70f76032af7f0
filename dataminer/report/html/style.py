"""How the pages look, and the little that they do by themselves."""

from __future__ import annotations

import base64
import hashlib

CSS = """
:root { color-scheme: light dark; --paper: #f6f6f4; --card: #fff; --ink: #1c1d1f; --faint:
  #63656b;
  --line: #e3e3df; --mat: #efefec; --accent: #1f5fbf; --soft: #d5e2f6; --good: #1b7a45;
  --bad: #b8323a; --badsoft: #eab5b2; --warn: #8a5300; }
@media (prefers-color-scheme: dark) { :root { --paper: #131416; --card: #1b1d20; --ink: #ececea;
  --faint: #a2a5ab; --line: #2d3035; --mat: #24272b; --accent: #7fb0ff; --soft: #26395a;
  --good: #63c78f; --bad: #ff8a85; --badsoft: #74393a; --warn: #e5ae58; } }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
html { scroll-behavior: smooth; scroll-padding-top: 4rem; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui,
  -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "Liberation Sans", sans-serif;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
header, main, footer, nav > div { max-width: 1120px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 52px; padding-bottom: 26px; }
h1 { font-size: clamp(2rem, 5vw, 3rem); line-height: 1.1; letter-spacing: -.025em; margin: .1em 0
  .3em; }
h2 { font-size: 1.45rem; letter-spacing: -.015em; margin: 0 0 .2rem; }
h3 { font-size: 1rem; margin: 1.8rem 0 .6rem; }
.over { color: var(--faint); font-size: .8rem; letter-spacing: .09em; text-transform: uppercase;
  margin: 0; font-weight: 600; }
p { margin: .3rem 0; } .lead, .none, figcaption, .faint, small { color: var(--faint); }
.lead { max-width: 46rem; margin-bottom: 1.1rem; }
a, b, bdi, code, small, span { unicode-bidi: isolate; }
a { color: var(--accent); } code { font: .9em ui-monospace, "SF Mono", Menlo, "DejaVu Sans Mono",
  monospace;
  background: var(--mat); padding: .1em .35em; border-radius: 4px; }
.pill { display: inline-block; padding: .1rem .6rem; border-radius: 99px; font-size: .8rem;
  font-weight: 600; background: var(--soft); color: var(--ink); vertical-align: middle; }
.pill.COMPLETE { background: var(--good); color: var(--card); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 12px;
  margin: 1.4rem 0 0; }
.tiles div { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 14px 16px; }
.tiles dt { color: var(--faint); font-size: .85rem; }
.tiles dd { margin: 0; font-size: 1.75rem; font-weight: 650; letter-spacing: -.02em; line-height:
  1.2; }
.tiles small { display: block; font-size: .8rem; font-weight: 400; letter-spacing: 0;
  line-height: 1.35; }
.tiles .bad dd { color: var(--bad); }
nav { position: sticky; top: 0; z-index: 2; background: var(--paper); border-bottom: 1px solid
  var(--line); }
nav > div { display: flex; gap: 4px 20px; overflow-x: auto; padding-top: 10px; padding-bottom:
  10px; }
nav a { color: var(--faint); text-decoration: none; font-size: .92rem; white-space: nowrap; }
nav a:hover, nav a:focus-visible { color: var(--accent); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 16px;
  padding: 26px 28px 30px; margin: 22px 0; }
footer { color: var(--faint); font-size: .85rem; padding-top: 8px; padding-bottom: 48px; }
svg:not(.bar) { display: block; width: 100%; height: auto; }
svg text { fill: var(--faint); font-size: 11px; }
svg .kept { fill: var(--accent); } svg .dropped { fill: var(--badsoft); }
svg .axis { stroke: var(--line); fill: none; } svg path.limit { stroke: var(--bad); fill: none;
  stroke-width: 1.5; stroke-dasharray: 4 3; } svg text.limit { fill: var(--bad); }
svg .mat { fill: var(--mat); } svg .heat { fill: var(--accent); }
svg .h1 { opacity: .16; } svg .h2 { opacity: .32; } svg .h3 { opacity: .48; } svg .h4 { opacity:
  .65; }
svg .h5 { opacity: .82; }
.funnel .band { fill: var(--soft); opacity: .65; } .funnel .step { fill: var(--accent); }
.funnel .s3 { fill: var(--good); } .funnel text.big { font-size: 27px; font-weight: 650; fill:
  var(--ink); }
.funnel text.name { font-size: 17px; fill: var(--ink); } .funnel text.share { font-size: 14px; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(270px, 1fr)); gap: 22px
  30px; }
.bars + *, .grid + * { margin-top: 1.6rem; }
.grid > figure, .shots > figure { margin: 0; } .grid figcaption { font-size: .88rem; }
.grid figcaption b { color: var(--ink); font-weight: 600; }
.key i { display: inline-block; width: .75em; height: .75em; border-radius: 2px; margin: 0 .4em 0
  0; } .key .kept { background: var(--accent); } .key .dropped { background: var(--badsoft); }
.key span { margin-right: 1.2em; font-size: .88rem; color: var(--faint); }
.shots { display: grid; grid-template-columns: repeat(auto-fill, minmax(160px, 1fr)); gap: 14px;
  margin: .6rem 0; }
.shots.large { grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); gap: 18px; }
.shots figcaption { font-size: .78rem; line-height: 1.35; margin-top: 5px; display: flex; gap:
  8px;
  justify-content: space-between; }
.shots figcaption span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.shots figcaption b { font-weight: 600; color: var(--ink); white-space: nowrap; }
.pic { position: relative; background: var(--mat); border-radius: 8px; overflow: hidden;
  aspect-ratio: 16 / 9;
  display: flex; align-items: center; justify-content: center; font-size: .8rem; color:
  var(--faint); }
.pic img, .pic svg { position: absolute; inset: 0; width: 100%; height: 100%; object-fit:
  contain; }
.pic svg rect { fill: transparent; stroke-width: 2; vector-effect: non-scaling-stroke; }
.pic svg text { fill: inherit; font-size: inherit; paint-order: stroke; stroke: #fff;
  stroke-width: .25em; font-weight: 700; }
.groups { display: grid; gap: 0 32px;
  grid-template-columns: repeat(auto-fill, minmax(440px, 1fr)); }
.group { display: grid; grid-template-columns: 170px 1fr; gap: 18px; padding: 14px
  0;
  border-top: 1px solid var(--line); align-items: start; }
.group .pic { outline: 2px solid var(--good); outline-offset: 0; }
.group .shots .pic { outline: 0; } .group .shots { grid-template-columns: repeat(auto-fill,
  minmax(92px, 1fr));
  gap: 8px; margin: 0; }
.group .shots figcaption { font-size: .7rem; }
.group figure { margin: 0; } .group > figure figcaption { font-size: .82rem; margin-top: 6px; }
.tablebox { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .9rem;
  }
th { text-align: left; color: var(--faint); font-weight: 500; font-size: .82rem; white-space:
  nowrap; }
th, td { padding: 6px 14px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n, th.n { text-align: right; white-space: nowrap; } td.title { min-width: 14rem; }
.bars { margin: .4rem 0; } .bars div { display: grid; grid-template-columns: minmax(90px, 200px)
  1fr;
  gap: 12px; align-items: center; padding: 2px 0; font-size: .9rem; }
.bars dd { margin: 0; display: flex; align-items: center; gap: 8px; padding-right: 7rem; }
.bars .bar { height: .85rem; fill: var(--accent); flex: none; }
.bars .bar.bad { fill: var(--bad); } .bars .bar.rest { fill: var(--faint); }
.bars b { font-weight: 500; color: var(--faint); white-space: nowrap; }
.bad { color: var(--bad); } .warn { color: var(--warn); } .good { color: var(--good); }
dl.facts { display: grid; grid-template-columns: minmax(120px, 220px) 1fr; gap: 4px 18px;
  font-size: .92rem; margin: 0; }
dl.facts dt { color: var(--faint); } dl.facts dd { margin: 0; }
details { margin-top: .8rem; } summary { cursor: pointer; color: var(--accent); }
pre { background: var(--mat); border-radius: 8px; padding: 12px 14px; overflow-x: auto; font:
  .82rem/1.5
  ui-monospace, "SF Mono", Menlo, "DejaVu Sans Mono", monospace; white-space: pre-wrap; }
.pager { display: flex; gap: 10px; align-items: center; margin-top: 12px; font-size: .88rem;
  color: var(--faint); }
button, input, select { font: inherit; font-size: .88rem; color: var(--ink); background:
  var(--card);
  border: 1px solid var(--line); border-radius: 8px; padding: 3px 12px; }
button { cursor: pointer; } button:disabled { opacity: .4; cursor: default; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
@media (max-width: 640px) { section { padding: 20px 16px; } .groups { grid-template-columns: 1fr; }
 .group { grid-template-columns: 1fr; }
  .bars div { grid-template-columns: 90px 1fr; }
  header, main, footer, nav > div { padding-left: 14px; padding-right: 14px; } }
@media print { nav, .pager { display: none; } section { break-inside: avoid; } }
"""

# Without it all pages of a gallery or a table are there, one below the other.
JS = """
for (const list of document.querySelectorAll("[data-page]")) {
  const size = Number(list.dataset.page), items = [...list.children];
  if (items.length <= size) continue;
  const last = Math.ceil(items.length / size) - 1, pager = document.createElement("div");
  const back = document.createElement("button"), on = document.createElement("button");
  const told = document.createElement("span");
  let page = 0;
  const show = (to) => {
    page = Math.min(Math.max(to, 0), last);
    items.forEach((item, n) => { item.hidden = Math.floor(n / size) !== page; });
    const end = Math.min((page + 1) * size, items.length);
    told.textContent = `${page * size + 1}\\u2013${end} of ${items.length}`;
    back.disabled = page === 0; on.disabled = page === last;
  };
  back.type = on.type = "button";
  back.textContent = "\\u2190 Back"; on.textContent = "Next \\u2192";
  back.onclick = () => show(page - 1); on.onclick = () => show(page + 1);
  pager.className = "pager"; pager.append(back, told, on);
  (list.closest("table") || list).after(pager);
  show(0);
}
"""


def policy(css: str = CSS, js: str = JS) -> str:
    """Return the Content-Security-Policy of a page: nothing but what is in the page itself.

    Parameters
    ----------
    css, js : str
        What the page's ``style`` and ``script`` hold; others are ignored by the browser, as are
        attributes for style and events.
    """
    return (
        f"default-src 'none'; img-src data:; style-src {_source(css)}; script-src {_source(js)};"
        " base-uri 'none'; form-action 'none'"
    )


def _source(code: str) -> str:
    if not code:
        return "'none'"
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"
