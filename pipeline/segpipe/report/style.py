"""Style and behaviour of segpipe's pages; both stand inside the page, which needs nothing else."""

STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1b1f24; --line: #8885; --soft: #8881; --mark: #0067a3;
--good: #e3f1fa; }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --ink: #e4e7ea; --mark: #6cbcf0; --good: #143346; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); max-width: 64rem;
margin: 0 auto; padding: 1rem; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; margin: .3rem 0 0; } h2 { font-size: 1.25rem; margin: 2.4rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; } a { color: var(--mark); }
.small, figcaption { font-size: .875rem; opacity: .85; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; margin: 1rem 0; font-size: .9rem; }
.answer { background: var(--good); border-radius: 8px; padding: .9rem 1.1rem; margin: 1rem 0; }
.answer h2 { margin: 0; font-size: 1rem; font-weight: 400; }
.take { font-size: 1.6rem; font-weight: 700; line-height: 1.25; margin: 0 0 .5rem; }
.answer dl { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr; gap: .2rem 1rem; margin: 0; }
.answer dt { font-weight: 600; max-width: 11rem; } .answer dd { margin: 0; }
@media (max-width: 40rem) { .answer dl { display: block; } .answer dt { max-width: none; margin-top: .4rem; } }
.warning { border-left: 4px solid #c75000; background: var(--soft); padding: .4rem 1rem; margin: 1rem 0; }
.lead { font-size: 1.1rem; background: var(--soft); border-left: 4px solid var(--mark); padding: .6rem 1rem; }
.scroll { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { vertical-align: bottom; } th:first-child, td:first-child { text-align: left; position: sticky; left: 0;
background: var(--page); }
.left { text-align: left; } .words { white-space: normal; min-width: 13rem; }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer;
text-align: inherit; } th button::after { content: ' \\2195'; opacity: .25; }
th[aria-sort=ascending] button::after { content: ' \\2191'; opacity: 1; }
th[aria-sort=descending] button::after { content: ' \\2193'; opacity: 1; }
:focus-visible { outline: 3px solid var(--mark); outline-offset: 2px; }
sup { line-height: 0; }
figure { margin: 1rem 0; } figure svg, figure img { max-width: 100%; height: auto; display: block; }
figure img { image-rendering: pixelated; border-radius: 4px; } svg { fill: currentColor; }
.plot { overflow-x: auto; } .plot svg { min-width: 32rem; }
.legend span { display: inline-block; margin-right: 1rem; }
.legend i { display: inline-block; width: .9em; height: .9em; margin-right: .35em; border-radius: 2px;
vertical-align: -1px; border: 1px solid var(--line); }
code, pre { background: var(--soft); border-radius: 4px; font-size: .9em; } code { padding: .1em .3em; }
pre { padding: .7rem 1rem; overflow-x: auto; } pre code { background: none; padding: 0; }
details { margin: .5rem 0; } summary { cursor: pointer; padding: .2rem 0; }
.pictures, .sliders { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); }
.sliders { grid-template-columns: repeat(auto-fill, minmax(min(24rem, 100%), 1fr)); }
.pictures figure, .sliders figure { margin: 0; } .pictures img, .pair img { width: 100%; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 4px; }
.js .pair { display: block; position: relative; cursor: ew-resize; touch-action: pan-y; }
.js .pair img + img { position: absolute; inset: 0; clip-path: inset(0 0 0 var(--at, 50%)); }
.js .pair::after { content: ''; position: absolute; top: 0; bottom: 0; left: var(--at, 50%); width: 3px;
margin-left: -1.5px; background: #fff; box-shadow: 0 0 3px #000; pointer-events: none; }
.ends { display: flex; justify-content: space-between; font-size: .8rem; }
input[type=range] { display: none; } .js input[type=range] { display: block; width: 100%; margin: .3rem 0 0; }
@media print {
:root { color-scheme: light; --page: #fff; --ink: #000; --good: #eee; --mark: #0067a3; }
body { max-width: none; font-size: 10pt; padding: 0; } nav, input[type=range], .js input[type=range] { display: none; }
.js .pair { display: grid; } .js .pair img + img { position: static; clip-path: none; }
.js .pair::after { content: none; }
.scroll, .plot { overflow: visible; } .plot svg { min-width: 0; }
table { font-size: 7.5pt; } th, td { padding: .15rem .3rem; white-space: normal; }
th button::after { content: none; } figure, tr, .answer { break-inside: avoid; } h2, h3 { break-after: avoid; }
}
"""

# Tables are sorted by their head's buttons, pairs of pictures compared by a slider; without a script both still read.
SCRIPT = """
'use strict';
document.documentElement.classList.add('js');
const number = text => { const found = text.match(/[-+]?\\d+(\\.\\d+)?/); return found ? parseFloat(found[0]) : NaN; };
for (const table of document.querySelectorAll('table')) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  if (body.rows.length < 3) continue;
  heads.forEach((head, column) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener('click', () => {
      const text = head.classList.contains('left') || !column;
      const first = head.getAttribute('aria-sort') !== (text ? 'ascending' : 'descending');
      const sign = first === text ? 1 : -1;
      heads.forEach(other => other.removeAttribute('aria-sort'));
      head.setAttribute('aria-sort', sign > 0 ? 'ascending' : 'descending');
      const value = row => row.cells[column].textContent.trim();
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [value(a), value(b)], [p, q] = [number(x), number(y)];
        if (text || (isNaN(p) && isNaN(q))) return sign * x.localeCompare(y);
        if (isNaN(p) || isNaN(q)) return isNaN(p) - isNaN(q);
        return sign * (p - q);
      });
      body.append(...rows);
    });
  });
}
for (const slider of document.querySelectorAll('input[type=range]')) {
  const pair = slider.parentElement.querySelector('.pair');
  const move = () => pair.style.setProperty('--at', slider.value + '%');
  slider.addEventListener('input', move);
  addEventListener('pageshow', move);
  const follow = event => {
    const box = pair.getBoundingClientRect();
    slider.value = 100 * (event.clientX - box.left) / box.width;
    move();
  };
  pair.addEventListener('pointerdown', follow);
  pair.addEventListener('pointermove', event => { if (event.buttons) follow(event); });
  pair.addEventListener('dragstart', event => event.preventDefault());
}
for (const box of document.querySelectorAll('.scroll, .plot')) {
  if (box.scrollWidth <= box.clientWidth) continue;
  const heading = box.closest('section')?.querySelector('h2')?.textContent ?? document.title;
  Object.entries({ tabindex: 0, role: 'region', 'aria-label': heading + ', scrolls sideways' })
    .forEach(([name, value]) => box.setAttribute(name, value));
}
addEventListener('beforeprint', () => document.querySelectorAll('details').forEach(item => { item.open = true; }));
"""
