// Texts whose contrast with what is behind them is below 4.5 (WCAG 2.2, 1.4.3).
() => {
  const parts = (text) => text.match(/[\d.]+/g).map(Number);
  const light = (c) => { c /= 255; return c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4; };
  const luminance = ([r, g, b]) => .2126 * light(r) + .7152 * light(g) + .0722 * light(b);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const [r, g, b, a = 1] = parts(getComputedStyle(node).backgroundColor);
      if (a === 1) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((c) => c.nodeType === 3 && c.textContent.trim());
    if (!own || !node.getClientRects().length || node.closest("script, style, title")) continue;
    const look = getComputedStyle(node);
    const colour = node instanceof SVGElement ? look.fill : look.color;
    if (!colour.startsWith("rgb")) continue;
    const [x, y] = [luminance(parts(colour)), luminance(ground(node))];
    const ratio = (Math.max(x, y) + .05) / (Math.min(x, y) + .05);
    if (ratio < 4.5) found.push(`${ratio.toFixed(2)}: ${node.tagName} ${node.textContent.slice(0, 40)}`);
  }
  return found;
}
