// The style of report.html, and of the charts in it.
#ifndef TIDAL_EVAL_REPORT_STYLE_H_
#define TIDAL_EVAL_REPORT_STYLE_H_

namespace tidal::report {

// The colours tell apart for the usual kinds of colour blindness, and from each other in grey by
// their order in a legend.
inline constexpr const char* kStyle = R"(
:root{color-scheme:light dark;--ground:#fff;--card:#f6f7f9;--ink:#1b1f24;--soft:#5b6470;--grid:#dfe3e8;--heat:#0b5cad;
--c0:#0b5cad;--c1:#c2410c;--c2:#15803d;--c3:#a21caf;--c4:#b45309;--c5:#0e7490;--c6:#be123c;--c7:#57534e}
@media(prefers-color-scheme:dark){:root{--ground:#14171b;--card:#1d2127;--ink:#e8eaed;--soft:#a3acb8;--grid:#353b44;--heat:#5aa7f0;
--c0:#6cb2ff;--c1:#ff9457;--c2:#5fd38a;--c3:#e58af2;--c4:#f2c14b;--c5:#4fd0e0;--c6:#ff7d94;--c7:#c9c3bd}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1120px;padding:20px 16px 60px;background:var(--ground);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:1.6rem;margin:0 0 4px}h2{font-size:1.25rem;margin:36px 0 6px;padding-top:14px;border-top:1px solid var(--grid)}
p{margin:4px 0 10px}.soft,.note{color:var(--soft);font-size:.86rem}
code{font:.84rem ui-monospace,Menlo,Consolas,monospace;overflow-wrap:anywhere}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,420px),1fr));gap:14px;margin:12px 0}
figure{margin:0;padding:12px;background:var(--card);border-radius:10px}
figcaption{font-weight:600;margin-bottom:6px;overflow-wrap:anywhere}
svg{display:block;width:100%;height:auto;font:12px system-ui,sans-serif}
svg text{fill:var(--ink)}svg .tick{fill:var(--soft)}svg .axis{fill:var(--soft)}
.grid{stroke:var(--grid);stroke-width:1}.rule{stroke:var(--soft);stroke-dasharray:4 4}
.c0{--c:var(--c0)}.c1{--c:var(--c1)}.c2{--c:var(--c2)}.c3{--c:var(--c3)}.c4{--c:var(--c4)}.c5{--c:var(--c5)}.c6{--c:var(--c6)}.c7{--c:var(--c7)}
.line{fill:none;stroke:var(--c);stroke-width:1.8;stroke-linejoin:round}.dashed .line{stroke-dasharray:6 4}
.bar{fill:none;stroke:var(--c);stroke-width:1.2;opacity:.65}circle{fill:var(--c);stroke:var(--card);stroke-width:1}
.heat{fill:var(--heat)}svg .on-heat{fill:var(--ground);font-weight:600}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:2px 14px;margin:6px 0 0;padding:0;font-size:.82rem}
.legend li{overflow-wrap:anywhere}.legend i{display:inline-block;width:18px;margin-right:6px;vertical-align:middle;border-top:3px solid var(--c)}
.legend .dashed i{border-top-style:dashed}
.table{overflow-x:auto;margin:12px 0}table{border-collapse:collapse;font-size:.86rem;font-variant-numeric:tabular-nums;min-width:100%}
th,td{padding:5px 10px;text-align:right;border-bottom:1px solid var(--grid);white-space:nowrap;vertical-align:top}
th{color:var(--soft);font-weight:600;white-space:normal;vertical-align:bottom}th:first-child,td:first-child{text-align:left;position:sticky;left:0;background:var(--ground)}
td:first-child{min-width:min(16rem,46vw);max-width:46vw;white-space:normal;overflow-wrap:anywhere}
td small{display:block;color:var(--soft)}
@media print{figure{break-inside:avoid}}
)";

}  // namespace tidal::report

#endif  // TIDAL_EVAL_REPORT_STYLE_H_
