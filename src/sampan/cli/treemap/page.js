"use strict";
(() => {
  const map = JSON.parse(document.getElementById("map").textContent);
  const svg = document.querySelector("svg");
  const tip = document.getElementById("tip");
  const crumbs = document.querySelector(".crumbs");
  const HEAD = 17, GAP = 2, LEAST = 3, OPEN = 26;
  let colouring = "layer", place = 0, only = 0;

  // The nodes as a tree; what none of a directory's nodes has is one more: its many small files.
  const nodes = map.nodes.map(([name, parent, size, wasted, files, file, layers], id) =>
    ({ id, name, parent, size, wasted, files, file, layers, children: [] }));
  for (const node of nodes) if (node.parent >= 0) nodes[node.parent].children.push(node);
  for (const node of nodes.slice()) {
    if (node.file) continue;
    const rest = { id: -1, name: "", parent: node.id, rest: true, files: 0, layers: [], children: [],
      size: node.size - sum(node.children, "size"), wasted: node.wasted - sum(node.children, "wasted") };
    const left = new Map(node.layers);
    for (const child of node.children)
      for (const [layer, size] of child.layers) left.set(layer, (left.get(layer) || 0) - size);
    rest.layers = [...left].filter(([, size]) => size > 0);
    if (rest.size > 0) node.children.push(rest);
    node.children.sort((a, b) => b.size - a.size);
  }

  function sum(list, field) { return list.reduce((total, item) => total + item[field], 0); }

  function bytes(size) {
    let unit = 0;
    while (size >= 1000 && unit < 6) { size /= 1000; unit++; }
    return `${Number(size.toPrecision(3))}${["B", "kB", "MB", "GB", "TB", "PB", "EB"][unit]}`;
  }

  function path(node) {
    const names = [];
    for (let at = node.rest ? nodes[node.parent] : node; at && at.parent >= 0; at = nodes[at.parent]) names.unshift(at.name);
    return "/" + names.join("/");
  }

  const style = getComputedStyle(document.documentElement);
  function shade(layer) {
    const hue = (layer * 137.508 + 210) % 360;
    return `oklch(${style.getPropertyValue("--lightness")} ${style.getPropertyValue("--chroma")} ${hue.toFixed(1)})`;
  }
  // What fills a rectangle: colours and their shares, from above; lower layers, which are hidden more often, are below.
  function bands(node) {
    const part = node.size ? node.wasted / node.size : 0;
    if (colouring === "waste") return [["var(--kept)", 1 - part], ["var(--wasted)", part]];
    const ordered = [...node.layers].sort((a, b) => b[0] - a[0]);
    return ordered.map(([layer, size]) => [shade(layer), size / node.size]);
  }

  // Squarified: Bruls, Huizing, van Wijk, "Squarified Treemaps", 2000.
  function squarify(items, x, y, w, h) {
    const placed = [];
    let total = sum(items, "size"), start = 0;
    while (start < items.length && total > 0 && w > 0 && h > 0) {
      const side = Math.min(w, h), scale = (w * h) / total;
      let end = start, row = 0, worst = Infinity;
      while (end < items.length) {
        const area = items[end].size * scale, next = row + area;
        const largest = items[start].size * scale;
        const ratio = Math.max((side * side * largest) / (next * next), (next * next) / (side * side * area));
        if (ratio > worst) break;
        worst = ratio; row = next; end++;
      }
      const thick = row / side;
      let at = 0;
      for (let i = start; i < end; i++) {
        const long = (items[i].size * scale) / thick;
        placed.push(w >= h ? [items[i], x, y + at, thick, long] : [items[i], x + at, y, long, thick]);
        at += long;
      }
      total -= sum(items.slice(start, end), "size");
      if (w >= h) { x += thick; w -= thick; } else { y += thick; h -= thick; }
      start = end;
    }
    return placed;
  }

  function element(name, attributes, parent) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const key in attributes) made.setAttribute(key, attributes[key]);
    parent.appendChild(made);
    return made;
  }

  function label(text, x, y, width, parent, kind) {
    const letters = Math.floor((width - 8) / 6.4);
    if (letters < 3) return;
    const made = element("text", { x: x + 4, y, class: kind }, parent);
    made.textContent = text.length > letters ? text.slice(0, letters - 1) + "…" : text;
  }

  function fill(node, x, y, w, h, rect, group) {
    const shares = bands(node).filter(([, share]) => share > 0);
    rect.style.fill = shares.reduce((best, one) => (one[1] > best[1] ? one : best), ["var(--kept)", 0])[0];
    if (w <= LEAST || h <= LEAST) return;
    let from = y;
    if (shares.length > 1)
      for (const [colour, share] of shares) {
        element("rect", { x, y: from, width: w, height: h * share }, group).style.fill = colour;
        from += h * share;
      }
    const part = node.size ? node.wasted / node.size : 0;
    if (part > 0 && colouring === "layer")
      element("rect", { x, y: y + h * (1 - part), width: w, height: h * part, class: "hatch" }, group);
  }

  function draw(node, x, y, w, h, parent, top) {
    const opens = !node.file && !node.rest && node.children.length > 0;
    const open = opens && (top || (w > OPEN && h > OPEN + HEAD));
    const group = element("g", { class: (open ? "directory" : "leaf") + (opens && !top ? " opens" : "") }, parent);
    group.node = node;
    const rect = element("rect", { x, y, width: Math.max(w, 0.5), height: Math.max(h, 0.5), rx: 2 }, group);
    if (opens && !top) {
      group.setAttribute("tabindex", "0");
      group.setAttribute("role", "button");
      group.setAttribute("aria-label", `${path(node)}, ${bytes(node.size)}`);
    }
    if (open) {
      label(`${node.parent < 0 ? "/" : node.name}  ${bytes(node.size)}`, x, y + 12.5, w, group, "");
      for (const [child, cx, cy, cw, ch] of squarify(node.children, x + GAP, y + HEAD, w - 2 * GAP, h - HEAD - GAP))
        if (cw >= 0.4 && ch >= 0.4) draw(child, cx, cy, cw - 1, ch - 1, group, false);
      return;
    }
    fill(node, x, y, w, h, rect, group);
    if (only && !node.layers.some(([layer]) => layer === only)) group.classList.add("dim");
    if (h > 14) label(node.rest ? `${node.parent ? "…" : "… in many small places"}` : node.name, x, y + 13, w, group, "leaf");
    if (h > 30) label(bytes(node.size), x, y + 26, w, group, "leaf");
  }

  function render() {
    const { width, height } = svg.getBoundingClientRect();
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    while (svg.lastChild.tagName !== "defs") svg.lastChild.remove();
    draw(nodes[place], 0, 0, width, height, svg, true);
    crumbs.replaceChildren();
    const chain = [];
    for (let at = nodes[place]; at; at = nodes[at.parent]) chain.unshift(at);
    chain.forEach((node, index) => {
      if (index > 1) crumbs.append("/");
      const button = document.createElement("button");
      button.textContent = index ? node.name : "/";
      button.addEventListener("click", () => go(node.id));
      crumbs.append(button);
    });
    const here = document.createElement("span");
    here.className = "soft";
    here.textContent = `  ${bytes(nodes[place].size)}, ${bytes(nodes[place].wasted)} of them wasted`;
    crumbs.append(here);
  }

  function go(id) { place = id; tip.hidden = true; render(); }

  function found(event) {
    const group = event.target.closest && event.target.closest("g");
    return group && svg.contains(group) ? group.node : null;
  }

  function tell(node, event) {
    tip.replaceChildren();
    const lines = [node.rest ? `small files and directories in ${path(node)}` : path(node),
      `${bytes(node.size)} (${((100 * node.size) / nodes[0].size).toPrecision(2)}% of the image)` +
        (node.files ? `, ${node.files.toLocaleString()} files` : "")];
    if (node.wasted) lines.push(`${bytes(node.wasted)} wasted`);
    lines.forEach((text, index) => {
      const line = document.createElement("div");
      if (index) line.className = "soft"; else line.style.fontWeight = 600;
      line.textContent = text;
      tip.append(line);
    });
    for (const [layer, size] of [...node.layers].sort((a, b) => b[1] - a[1]).slice(0, 5)) {
      const line = document.createElement("div"), swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.background = shade(layer);
      const step = (map.steps[layer - 1] || "").slice(0, 60);
      line.append(swatch, `layer ${layer}: ${bytes(size)}  `, step);
      tip.append(line);
    }
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 8))}px`;
    tip.style.top = `${event.clientY + 18 + height > innerHeight ? event.clientY - height - 12 : event.clientY + 18}px`;
  }

  svg.addEventListener("mousemove", (event) => {
    const node = found(event);
    if (node) tell(node, event); else tip.hidden = true;
  });
  svg.addEventListener("mouseleave", () => { tip.hidden = true; });
  function into(event) {
    const node = found(event);
    const directory = node && (node.file || node.rest) ? nodes[node.parent] : node;
    if (directory && directory.id !== place) go(directory.id);
  }
  svg.addEventListener("click", into);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && nodes[place].parent >= 0) go(nodes[place].parent);
    if ((event.key === "Enter" || event.key === " ") && found(event)) { into(event); event.preventDefault(); }
  });
  for (const button of document.querySelectorAll(".choice button"))
    button.addEventListener("click", () => {
      colouring = button.value;
      for (const other of document.querySelectorAll(".choice button"))
        other.setAttribute("aria-pressed", String(other === button));
      render();
    });
  for (const row of document.querySelectorAll("tr.layer")) {
    const layer = Number(row.dataset.layer);
    row.addEventListener("mouseenter", () => { only = layer; render(); });
    row.addEventListener("mouseleave", () => { only = 0; render(); });
  }
  function paint() {
    for (const row of document.querySelectorAll("tr.layer"))
      row.querySelector(".swatch").style.background = shade(Number(row.dataset.layer));
    render();
  }
  addEventListener("resize", render);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
  paint();
})();
