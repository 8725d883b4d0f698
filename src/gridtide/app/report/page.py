"""The sheet: A4 in the page's look, always light, and the head and foot that every sheet carries."""

from html import escape

_STYLE = """
:root{color-scheme:light;--paper:#fbfcfd;--raise:#f4f7f9;--ink:#17212b;--soft:#3c4a57;--muted:#5b6b7a;--line:#e3e8ed;
--rest:#a9b5c0;--in:#0f8b8d;--out:#d98e04;--out-ink:#8a5a00;--bad:#c8402f;--bad-ink:#b5331f;--ok:#3a8f5c;--ok-ink:#2b7448;
--before:#8a98a5}
*{box-sizing:border-box;margin:0}
html{-webkit-text-size-adjust:100%}
body{background:#eef1f4;color:var(--ink);font:400 13px/20px Inter,ui-sans-serif,system-ui,-apple-system,
"Segoe UI",Roboto,"Helvetica Neue",sans-serif;font-variant-numeric:tabular-nums lining-nums;
-webkit-font-smoothing:antialiased;
text-rendering:optimizeLegibility}
.sheet{width:794px;height:1123px;margin:24px auto;background:var(--paper);padding:44px 57px 36px;display:flex;
flex-direction:column;overflow:hidden}
header,footer{display:flex;justify-content:space-between;align-items:center;gap:24px;color:var(--muted);font-size:12px;
white-space:nowrap}
header{padding-bottom:12px;border-bottom:1px solid var(--line)}
footer{margin-top:auto;padding-top:12px;border-top:1px solid var(--line)}
.id{display:flex;align-items:center;gap:10px;color:var(--ink);font-size:13px;min-width:0}
.id b{font-weight:600;overflow:hidden;text-overflow:ellipsis}
.logo{flex:none}
.logo path{fill:none;stroke:var(--ink);stroke-width:2;stroke-linecap:round}.logo .l2{stroke:var(--in)}
.lead{padding:36px 0 28px}
h1{font-size:31px;line-height:40px;font-weight:500;letter-spacing:-.022em;max-width:600px;text-wrap:balance}
.lead p{font-size:16px;line-height:24px;color:var(--soft);margin-top:14px;max-width:600px}
.three{display:grid;grid-template-columns:repeat(4,1fr);
border-top:1px solid var(--line);border-bottom:1px solid var(--line)}
.three div{padding:16px 8px 16px 20px;border-left:1px solid var(--line)}
.three div:first-child{border:0;padding-left:0}
dt{color:var(--muted);font-size:12px}
dd{font-size:25px;line-height:34px;letter-spacing:-.025em;white-space:nowrap}
dd i{line-height:1;font-style:normal;font-size:13px;color:var(--muted);letter-spacing:0}
small,dd.note{font-size:12px;line-height:16px;color:var(--muted);display:block;letter-spacing:0;white-space:normal}
h2,h3{font-size:14px;line-height:20px;font-weight:600}
h3 b{color:var(--muted);font-weight:400;margin-right:6px}
.billrow{padding-top:28px}
table{width:100%;border-collapse:collapse;margin-top:8px}
th{font-weight:400;font-size:12px;color:var(--muted);text-align:right;padding:4px 0}
th:first-child{text-align:left}
td{border-top:1px solid var(--line);padding:6px 0;text-align:right;vertical-align:top;width:96px;white-space:nowrap}
td:first-child{text-align:left;width:auto;white-space:normal}
.tight td{padding:3px 0}.tight small{display:inline;margin-left:10px}
.tot td{font-weight:600;font-size:16px;border-top:1px solid var(--ink);padding-top:9px}
figure{padding-top:26px;display:flex;flex-direction:column;flex:none}
.gives{flex:0 1 auto;min-height:0}.gives svg{flex:0 1 auto;min-height:90px}.gives figcaption{flex:none}
figure svg{margin-top:8px;overflow:visible}
figcaption{color:var(--muted);font-size:12px;line-height:18px;margin-top:8px;max-width:620px}
.first{padding-top:24px}
.sheet+.sheet figcaption{margin-top:6px}
.two{display:grid;grid-template-columns:1fr 1fr;gap:32px}
.notes{padding-top:22px}
.notes p{color:var(--soft);font-size:12px;line-height:18px;max-width:620px;margin-top:2px}
.notes.p11 p{max-width:none;font-size:11px;line-height:16px}
.notes.p9 p{max-width:none;font-size:9px;line-height:12px}
svg{display:block}
svg text{font:inherit;font-size:11px;font-variant-numeric:tabular-nums;fill:var(--muted)}
svg .ink{fill:var(--ink)}svg .b{font-weight:600}svg .red{fill:var(--bad-ink)}svg .t13{font-size:12.5px}
svg .okk{fill:var(--ok-ink);font-weight:500}svg .outk{fill:var(--out-ink);font-weight:500}
svg .clear{paint-order:stroke;stroke:var(--paper);stroke-width:3px;stroke-linejoin:round;stroke-opacity:.75}
svg .halo{paint-order:stroke;stroke:var(--raise);stroke-width:3px;stroke-linejoin:round}
.g{stroke:var(--line)}.axis,.tick{stroke:var(--rest)}.win{fill:none;stroke:var(--rest)}
.lim{stroke:var(--bad);stroke-dasharray:5 4}
.ba{fill:none;stroke:var(--before);stroke-width:1.5;stroke-linejoin:round}
.st{fill:none;stroke:var(--ink);stroke-width:2.25;stroke-linejoin:round}
.bu{fill:none;stroke:var(--rest);stroke-width:1;stroke-linejoin:round}
.book{stroke:var(--ink);stroke-dasharray:2 3}
.bad{fill:var(--before)}.std{fill:var(--ink)}.aout{fill:var(--out);opacity:.28}
.wt{fill:var(--before)}.wt2{fill:var(--ink)}.wg{fill:var(--ok)}.wb{fill:var(--out)}.gap{fill:var(--paper)}
.conn{stroke:var(--rest);stroke-dasharray:2 2}.field{fill:var(--raise)}
.f1{fill:var(--in);opacity:.14}.f2{fill:var(--in);opacity:.22}.fm{fill:none;stroke:var(--in);stroke-width:2}
.dok{fill:var(--ink);opacity:.7}.dbad{fill:var(--bad);stroke:var(--paper)}
.stick{stroke:var(--ok);stroke-width:.8;opacity:.5}.bads{stroke:var(--bad);opacity:.8}
.s1{fill:#c9d2da}.s2{fill:var(--ink)}.s3{fill:#e1e6eb}.s4{fill:var(--out)}.s5{fill:var(--in)}.s6{fill:var(--rest)}
svg .ins1,svg .ins3,svg .ins4,svg .ins6{fill:var(--ink)}svg .ins2,svg .ins5{fill:#fff}
@page{size:A4;margin:0}
@media print{body{background:none}
.sheet{margin:0;width:210mm;height:297mm;break-after:page;break-inside:avoid}.sheet:last-child{break-after:auto}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""
_LOGO = (
    '<svg class="logo" viewBox="0 0 28 20" width="25" height="18" aria-hidden="true">'
    '<path d="M1 7c4.3-7 8.7-7 13 0s8.7 7 13 0"/><path d="M1 14c4.3-7 8.7-7 13 0s8.7 7 13 0" class="l2"/></svg>'
)


def document(title: str, sheets: list[str]) -> str:
    """The whole page around its sheets (markup); `title` is plain text."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width,initial-scale=1"/>'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(sheets)
        + "\n</body></html>\n"
    )


def sheet(site: str, subject: str, body: str, page: int, pages: int) -> str:
    """One A4 sheet: `site` and `subject` are plain text, `body` is markup."""
    head = f'<header><span class="id">{_LOGO}<b>{escape(site)}</b></span><span>{escape(subject)}</span></header>'
    foot = f"<footer><span>gridtide</span><span>{page} of {pages}</span></footer>"
    return f'<article class="sheet">\n{head}\n{body}\n{foot}</article>'
