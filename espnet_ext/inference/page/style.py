"""How the page looks: one column on a phone, light or dark as the browser is."""

CSS = """
.gradio-container { max-width: 1240px !important; }
.ser-page { --ser-soft: color-mix(in srgb, var(--body-text-color) 72%, transparent); }
.ser-page h1 { margin: 0 0 8px; font-size: 1.5rem; }
.ser-page dl { display: grid; grid-template-columns: auto 1fr; gap: 2px 12px;
  margin: 8px 0; }
.ser-page dt { color: var(--ser-soft); }
.ser-page dd { margin: 0; overflow-wrap: anywhere; }
.ser-page pre { overflow-x: auto; font-size: .8rem; }
.ser-page summary { cursor: pointer; color: var(--ser-soft);
  margin-top: 8px; }
.ser-page small { color: var(--ser-soft); font-weight: normal; }
.ser-box { padding: 8px 12px; margin-bottom: 10px; border-radius: 6px;
  border-left: 4px solid;
  overflow-wrap: anywhere; color: #222; }
.ser-error { background: #fde8e6; border-color: #c0392b; }
.ser-warning { background: #fff4d6; border-color: #d99a00; }
.ser-hint { background: #eaf2f8; border-color: #0072b2; }
.ser-cards { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr));
  gap: 10px; }
.ser-card { border: 1px solid var(--border-color-primary); border-radius: 8px;
  padding: 10px 14px; min-width: 0; }
.ser-right { grid-column: 2; grid-row: 1 / span 2; }
.ser-wide, .ser-cards:not(:has(.ser-right)) > .ser-card { grid-column: 1 / -1; }
.ser-card h3 { margin: 0 0 6px; font-size: 1rem; }
.ser-card img { width: 100%; max-width: 760px; display: block; margin: auto;
  border-radius: 4px; }
.ser-label { font-size: 1.7rem; font-weight: 700; margin-bottom: 8px; }
.ser-row { display: grid; grid-template-columns: 5.6rem 1fr 3rem; gap: 8px;
  align-items: center;
  margin: 5px 0; }
.ser-row > :last-child { text-align: right; font-variant-numeric: tabular-nums; }
.ser-track { background: var(--border-color-primary); border-radius: 4px;
  height: 16px; }
.ser-bar { height: 100%; min-width: 1px; border-radius: 4px; }
.ser-attribute { display: grid; grid-template-columns: 1fr auto 1fr; gap: 8px;
  align-items: baseline; margin: 6px 0 14px; }
.ser-attribute small:last-of-type { text-align: right; }
.ser-attribute .ser-track { grid-column: 1 / -1; height: 4px; position: relative; }
.ser-attribute b, .ser-square b { position: absolute; border-radius: 50%;
  background: #d55e00; border: 2px solid #fff; box-shadow: 0 0 3px #0008; }
.ser-attribute b { width: 14px; height: 14px; top: 50%;
  transform: translate(-50%, -50%); }
.ser-square b { width: 18px; height: 18px; transform: translate(-50%, 50%); }
.ser-plane { display: grid; grid-template: "y e p" auto ". . x" auto / auto auto 1fr;
  gap: 2px 4px; font-size: .8rem; max-width: 380px; margin: auto;
  color: var(--ser-soft); }
.ser-y { grid-area: y; writing-mode: vertical-rl; transform: rotate(180deg);
  text-align: center; }
.ser-yends { grid-area: e; display: flex; flex-direction: column;
  justify-content: space-between; }
.ser-x { grid-area: x; display: flex; justify-content: space-between; }
.ser-square { grid-area: p; position: relative; aspect-ratio: 1;
  border: 1px solid var(--ser-soft); border-radius: 4px;
  background: linear-gradient(#8885, #8885) 50% / 1px 100% no-repeat,
    linear-gradient(#8885, #8885) 50% / 100% 1px no-repeat; }
.ser-square em { position: absolute; font-size: .75rem; }
.ser-table { overflow: auto; max-height: 420px; margin-top: 8px; }
.ser-page .ser-table table { border-collapse: collapse; width: 100%;
  font-size: .88rem; }
.ser-page .ser-table :is(table, tr, th, td) { border: 0; }
.ser-page .ser-table :is(th, td) { padding: 4px 10px 4px 0; text-align: left;
  white-space: nowrap; font-variant-numeric: tabular-nums;
  border-bottom: 1px solid var(--border-color-primary); }
.ser-page .ser-table td:last-child { white-space: normal; }
#csv { max-width: 240px; }
@media (max-width: 760px) {
  .ser-cards { grid-template-columns: minmax(0, 1fr); }
  .ser-right { grid-column: auto; grid-row: auto; }
  .ser-plane { max-width: 290px; }
  .ser-left { display: contents !important; }
  .ser-left > * { flex-basis: 100%; }
  #about { order: 1; }
}
"""
